/* Programs that one who puts threads right must bear with. `strange calm`: takes SIGTRAPs as they come.
 * `strange edge`, `strange nowhere`: in a signal's handler, by its registers, but for the stack: it ends inside of the
 * signal's description, or is at no possible address.
 * `strange away`: in the kernel, where no signal is taken, until its standard input ends. */
#define _DEFAULT_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void taken(int number) { (void)number; }

static void stand(unsigned long stack, unsigned long info) {
  puts("ready");
  fflush(stdout);
  __asm__ volatile("mov %0, %%rsp; lea 8(%%rsp), %%rdx; mov $5, %%edi; 1: jmp 1b" : : "r"(stack), "S"(info) : "rdx", "rdi");
}

int main(int argc, char **argv) {
  const char *what = argv[argc > 1 ? 1 : 0];
  if (!strcmp(what, "edge")) {
    long page = sysconf(_SC_PAGESIZE);
    char *room = mmap(0, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(room + page, page);
    room[0] = 1;
    stand((unsigned long)room + page - 256, (unsigned long)room + page - 8);
  }
  if (!strcmp(what, "nowhere")) stand(1UL << 63, (1UL << 63) + 64);
  signal(SIGTRAP, taken);
  puts("ready");
  fflush(stdout);
  if (!strcmp(what, "away")) {
    char byte;
    if (!vfork()) {
      if (read(0, &byte, 1) < 0) _exit(1);
      _exit(0);
    }
  }
  for (;;) pause();
}
