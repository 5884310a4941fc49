"""A terminal debugger over DAP that feels like pdb: `squashctl console` and whatever else wants one."""
