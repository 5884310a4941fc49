"""`squashctl`: the developer's front door. Installed packages add commands by the entry points `squash.commands`."""
