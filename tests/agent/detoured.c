/* Looks to the injector like a CPython, and notices everything that a detour does to its main thread.
 *
 * The argument says what that does: `spin` counts in a loop that keeps a pattern in every register, in the flags and in
 * the red zone; the others sleep in one system call and check what it returns, and that it took its time;
 * `full` has no room in its queue. The functions
 * that the injector calls spoil all that a function may spoil. For each line on stdin it says
 * `rounds wrong runs queued`, as they are by then.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile long rounds, wrong, runs, queued, signals;
static int (*queue_call[32])(void *);
static void *queue_argument[32];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int numbers[2];

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void spoil(void) {
    __asm__ volatile(
        "mov $-1, %%rax\n mov %%rax, %%rcx\n mov %%rax, %%rdx\n mov %%rax, %%rsi\n mov %%rax, %%rdi\n"
        "mov %%rax, %%r8\n mov %%rax, %%r9\n mov %%rax, %%r10\n mov %%rax, %%r11\n"
        "pcmpeqd %%xmm0, %%xmm0\n pcmpeqd %%xmm1, %%xmm1\n pcmpeqd %%xmm7, %%xmm7\n pcmpeqd %%xmm15, %%xmm15\n"
        "fldpi\n fldpi\n fstp %%st(0)\n fstp %%st(0)\n clc\n"
        ::: "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "xmm0", "xmm1", "xmm7", "xmm15", "cc", "memory");
}

int PyGILState_Ensure(void) { spoil(); return 1; }
void PyGILState_Release(int state) { if (state != 1) wrong++; spoil(); }
void PyConfig_InitPythonConfig(void *config) { (void)config; }

int PyRun_SimpleString(const char *source) {
    char deep[65536];
    memset(deep, 1, sizeof deep);
    __asm__ volatile("" ::"r"(deep) : "memory");
    if (strcmp(source, "a piece of code")) wrong++;
    for (double until = now() + 0.001; now() < until;) sched_yield();
    spoil();
    runs++;
    return 0;
}

int Py_AddPendingCall(int (*call)(void *), void *argument) {
    int full;
    pthread_mutex_lock(&lock);
    full = queued == 32;
    if (!full) {
        queue_call[queued] = call;
        queue_argument[queued++] = argument;
    }
    pthread_mutex_unlock(&lock);
    spoil();
    return full ? -1 : 0;
}

static void make_calls(void) {
    while (queued) {
        pthread_mutex_lock(&lock);
        int (*call)(void *) = queue_call[--queued];
        void *argument = queue_argument[queued];
        pthread_mutex_unlock(&lock);
        if (call(argument)) wrong++;
    }
}

static const unsigned char pattern[32] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22};
static unsigned char found[32];

/* 0 when everything is as it was. The stack pointer cannot be spoilt without a crash. */
static long spin(void) {
    long bad;
    __asm__ volatile(
        "sub $256, %%rsp\n push %%rbp\n push %%rbx\n sub $256, %%rsp\n"
        "vmovdqu %[pattern], %%ymm0\n vmovdqa %%ymm0, %%ymm7\n vmovdqa %%ymm0, %%ymm15\n"
        "fldpi\n"
        "mov $101, %%rax\n mov $102, %%rbx\n mov $104, %%rdx\n mov $105, %%rsi\n mov $106, %%rdi\n mov $107, %%rbp\n"
        "mov $108, %%r8\n mov $109, %%r9\n mov $110, %%r10\n mov $111, %%r11\n mov $112, %%r12\n mov $113, %%r13\n"
        "mov $114, %%r14\n mov $115, %%r15\n"
        "movq $116, -8(%%rsp)\n movq $117, -64(%%rsp)\n movq $118, -128(%%rsp)\n"
        "mov $300000, %%rcx\n"
        "std\n stc\n"
        "1: loop 1b\n"
        "jnc 2f\n"
        "cmp $101, %%rax\n jne 2f\n cmp $102, %%rbx\n jne 2f\n cmp $104, %%rdx\n jne 2f\n cmp $105, %%rsi\n jne 2f\n"
        "cmp $106, %%rdi\n jne 2f\n cmp $107, %%rbp\n jne 2f\n cmp $108, %%r8\n jne 2f\n cmp $109, %%r9\n jne 2f\n"
        "cmp $110, %%r10\n jne 2f\n cmp $111, %%r11\n jne 2f\n cmp $112, %%r12\n jne 2f\n cmp $113, %%r13\n jne 2f\n"
        "cmp $114, %%r14\n jne 2f\n cmp $115, %%r15\n jne 2f\n cmp $0, %%rcx\n jne 2f\n"
        "cmpq $116, -8(%%rsp)\n jne 2f\n cmpq $117, -64(%%rsp)\n jne 2f\n cmpq $118, -128(%%rsp)\n jne 2f\n"
        "lea -136(%%rsp), %%rsp\n pushfq\n pop %%rax\n lea 136(%%rsp), %%rsp\n test $0x400, %%rax\n jz 2f\n"
        "vpxor %%ymm0, %%ymm7, %%ymm7\n vpxor %%ymm0, %%ymm15, %%ymm15\n vpor %%ymm7, %%ymm15, %%ymm15\n"
        "vptest %%ymm15, %%ymm15\n jnz 2f\n"
        "xor %%eax, %%eax\n jmp 3f\n"
        "2: mov $1, %%eax\n"
        "3: cld\n fldpi\n fcompp\n"
        "vmovdqu %%ymm0, %[found]\n vzeroupper\n"
        "add $256, %%rsp\n pop %%rbx\n pop %%rbp\n add $256, %%rsp\n"
        : "=&a"(bad), [found] "=m"(found)
        : [pattern] "m"(pattern)
        : "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0", "xmm7", "xmm15", "cc",
          "memory");
    return bad || memcmp(pattern, found, sizeof found);
}

static long sleep_in(const char *how) {
    double begun = now();
    struct timespec wait = {0, 60000000}, left = {0, 0};
    struct timeval interval = {0, 60000};
    int result, value = 7, number;
    if (!strcmp(how, "poll")) {
        result = poll(0, 0, 60);
    } else if (!strcmp(how, "select")) {
        result = select(0, 0, 0, 0, &interval);
    } else if (!strcmp(how, "nanosleep")) {
        result = syscall(SYS_nanosleep, &wait, &left);
    } else if (!strcmp(how, "futex")) {
        result = syscall(SYS_futex, &value, FUTEX_WAIT, 7, &wait, 0, 0) + 1;
        if (!result && errno != ETIMEDOUT) result = -1;
    } else { /* read */
        static int expected;
        result = read(numbers[0], &number, sizeof number) != sizeof number || number != expected++;
        begun -= 1;
    }
    return result != 0 || now() - begun < 0.0595;
}

static void *writer(void *nothing) {
    for (int number = 0;; number++) {
        usleep(30000);
        if (write(numbers[1], &number, sizeof number) < 0) return nothing;
    }
}

static void *answers(void *nothing) {
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        printf("%ld %ld %ld %ld\n", rounds, wrong, runs, queued);
        fflush(stdout);
    }
    return nothing;
}

static void on_signal(int number) { (void)number; signals++; }

/* A read that a signal with a handler must interrupt, as often as it comes: says `rounds signals` at the end. */
static int interrupted(long count) {
    struct sigaction action = {.sa_handler = on_signal};
    int number;
    sigaction(SIGUSR1, &action, 0);
    printf("up\n");
    fflush(stdout);
    while (rounds < count) {
        if (read(numbers[0], &number, sizeof number) >= 0 || errno != EINTR) wrong++;
        rounds++;
        make_calls();
        printf("%ld %ld\n", wrong, signals);
        fflush(stdout);
    }
    return 0;
}

int main(int argc, char **argv) {
    pthread_t thread;
    sigset_t all;
    if (argc < 2 || pipe(numbers)) return 2;
    if (!strcmp(argv[1], "interrupted")) return interrupted(argc > 2 ? atol(argv[2]) : 1);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, 0);
    pthread_create(&thread, 0, answers, 0);
    pthread_create(&thread, 0, writer, 0);
    sigemptyset(&all);
    pthread_sigmask(SIG_SETMASK, &all, 0);
    if (!strcmp(argv[1], "full")) {
        queued = 32; /* and never made: there is nothing in the queue */
        for (;;) spin();
    }
    for (;;) {
        if (strcmp(argv[1], "spin") ? sleep_in(argv[1]) : spin()) wrong++;
        rounds++;
        make_calls();
    }
}
