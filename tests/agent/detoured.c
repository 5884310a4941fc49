/* Looks to the injector like a CPython, and notices everything that a detour does to its main thread.
 *
 * The argument says what that does: `spin` counts in a loop that keeps a pattern in every register and in the flags (on
 * x86-64 in the red zone too); the others sleep in one system call and check what it returns, and that it took its time;
 * `full` has no room in its queue. The functions
 * that the injector calls spoil all that a function may spoil. For each line on stdin it says
 * `rounds wrong runs queued`, as they are by then. SQUASH_SLOWNESS: how much longer all waits are, for slow machines.
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

#if defined __x86_64__
#include "detoured_x86_64.h"
#elif defined __aarch64__
#include "detoured_aarch64.h"
#endif

static volatile long rounds, wrong, runs, queued, signals;
static int (*queue_call[32])(void *);
static void *queue_argument[32];
static long slowness = 1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int numbers[2];

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
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

static long sleep_in(const char *how) {
    double begun = now();
    long ms = 60 * slowness;
    struct timespec wait = {ms / 1000, ms % 1000 * 1000000}, left = {0, 0};
    struct timeval interval = {ms / 1000, ms % 1000 * 1000};
    int result, value = 7, number;
    if (!strcmp(how, "poll")) {
        result = poll(0, 0, ms);
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
        begun -= ms;
    }
    return result != 0 || now() - begun < ms / 1e3 - 0.0005;
}

static void *writer(void *nothing) {
    for (int number = 0;; number++) {
        usleep(30000 * slowness);
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
    if (getenv("SQUASH_SLOWNESS")) slowness = atol(getenv("SQUASH_SLOWNESS"));
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
