// What a thread of another process does for us, by itself, between two of its own instructions (aarch64).
//
// agent/machines/aarch64.py holds the bytes that this assembles to; a test compares them. The code is the same for every
// process and every time: all that differs lies in a block on the thread's stack (`sp` at `entry`) and in a page that
// the thread makes. Whoever sent the thread here may be gone at any instruction: the way back needs nobody.
//
// No instruction but a signal's return takes a thread back with every register as it was: so that is the way, with a
// frame as the kernel lays it down for a handler. The vectors are in it from the beginning.
//
// The block:
//     0  PyGILState_Ensure, or 0: queue the work instead of doing it now
//     8  PyRun_SimpleString
//    16  PyGILState_Release
//    24  Py_AddPendingCall
//    32  bytes to map for the page
//    40  bytes of source, its final zero included
//    48  where the source lies
//    56  signals to be blocked meanwhile; then those that came
//    64  signals that came before they were blocked
//    72  where an interrupted system call returns to with EINTR, 0: none was interrupted
//    80  flags of a signal's handler that have the system call restarted all the same
//    88  not 0: the kernel has kept what is left of the wait, for restart_syscall
//    96  a kernel's struct sigaction
//   128  a kernel's struct rt_sigframe; in it
//   272    the stack for signals (filled in here)
//   296    signals that were blocked before (filled in here)
//   440    x0
//   696    the thread's next instruction
// The page: 0 PyRun_SimpleString, 8 its own size, 16 the source.

        .text
        .ascii  "squash/1"
entry:
        mov     x19, sp
        mov     x8, #135                        // rt_sigprocmask(SIG_SETMASK, meanwhile, before, 8)
        mov     x0, #2
        add     x1, x19, #56
        add     x2, x19, #296
        mov     x3, #8
        svc     #0
        mov     x8, #132                        // sigaltstack(0, now): the way back sets it
        mov     x0, #0
        add     x1, x19, #272
        svc     #0
        msr     fpcr, xzr                       // what a program starts with
        msr     fpsr, xzr

        mov     x8, #222                        // mmap(0, size, READ | WRITE, PRIVATE | ANONYMOUS, -1, 0)
        mov     x0, #0
        ldr     x1, [x19, #32]
        mov     x2, #3
        mov     x3, #0x22
        mov     x4, #-1
        mov     x5, #0
        svc     #0
        mov     x21, x0
        cmn     x0, #4095
        b.hs    back
        mov     x20, x0
        ldp     x9, x10, [x19, #40]
        ldr     x11, [x19, #8]
        ldr     x12, [x19, #32]
        stp     x11, x12, [x20]
        add     x11, x20, #16
copy:   ldrb    w12, [x10], #1
        strb    w12, [x11], #1
        subs    x9, x9, #1
        b.ne    copy

        ldr     x9, [x19]
        cbz     x9, queue
        blr     x9
        mov     w22, w0
        mov     x0, x20
        bl      work
        mov     w0, w22
        ldr     x9, [x19, #16]
        blr     x9
        mov     x21, #0
        b       back
queue:
        adr     x0, work
        mov     x1, x20
        ldr     x9, [x19, #24]
        blr     x9
        sxtw    x21, w0
        cbz     x21, back
        mov     x8, #215                        // munmap(page, size)
        mov     x0, x20
        ldr     x1, [x19, #32]
        svc     #0

back:
        mov     x8, #172                        // getpid(): the injector, if it is still there, sees the outcome in x21
        svc     #0
        // A signal that came meanwhile must interrupt a system call just as it would have without us.
        ldr     x20, [x19, #72]
        cbz     x20, restore
        mov     x8, #136                        // rt_sigpending(came, 8)
        add     x0, x19, #56
        mov     x1, #8
        svc     #0
        ldp     x9, x10, [x19, #56]
        ldr     x11, [x19, #296]
        bic     x9, x9, x11
        orr     x9, x9, x10
        cbz     x9, again
        rbit    x9, x9
        clz     x0, x9
        add     x0, x0, #1
        mov     x8, #134                        // rt_sigaction(the first of them, 0, action, 8)
        mov     x1, #0
        add     x2, x19, #96
        mov     x3, #8
        svc     #0
        ldp     x9, x10, [x19, #96]
        cmp     x9, #1                          // SIG_DFL or SIG_IGN: nothing of the program is called
        b.ls    again
        ldr     x11, [x19, #80]
        tst     x10, x11
        b.ne    again
        mov     x0, #-4                         // EINTR
        b       returned
again:
        ldr     x9, [x19, #88]
        cbz     x9, restore
        // A signal's return has the kernel forget what is left of the wait; so the rest is waited for here.
        mov     x8, #135                        // rt_sigprocmask(SIG_SETMASK, before, 0, 8)
        mov     x0, #2
        add     x1, x19, #296
        mov     x2, #0
        mov     x3, #8
        svc     #0
        mov     x8, #128                        // restart_syscall()
rest:   svc     #0
returned:
        str     x0, [x19, #440]
        str     x20, [x19, #696]
restore:
        add     sp, x19, #128
        mov     x8, #139                        // rt_sigreturn()
        svc     #0

work:   // int work(page): runs the source and gives the page back
        hint    #34                             // bti c: the code may lie in a page where branches must aim well
        stp     x29, x30, [sp, #-32]!
        mov     x29, sp
        str     x19, [sp, #16]
        mov     x19, x0
        ldr     x9, [x0], #16
        blr     x9
        mov     x8, #215                        // munmap(page, size)
        mov     x0, x19
        ldr     x1, [x19, #8]
        svc     #0
        mov     w0, #0
        ldr     x19, [sp, #16]
        ldp     x29, x30, [sp], #32
        ret
