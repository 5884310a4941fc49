# What a thread of another process does for us, by itself, between two of its own instructions (x86-64).
#
# agent/machines/x86_64.py holds the bytes that this assembles to; a test compares them. The code is the same for every
# process and every time: all that differs lies in a block on the thread's stack (`rsp` at `entry`) and in a page that
# the thread makes. Whoever sent the thread here may be gone at any instruction: the way back needs nobody.
#
# The block:
#     0  PyGILState_Ensure, or 0: queue the work instead of doing it now
#     8  PyRun_SimpleString
#    16  PyGILState_Release
#    24  Py_AddPendingCall
#    32  bytes to map for the page
#    40  bytes of source, its final zero included
#    48  signals that were blocked before (filled in here)
#    56  signals to be blocked meanwhile; then those that came
#    64  where the saved registers lie
#    72  where the source lies
#    80  where an interrupted system call returns to with EINTR, 0: none was interrupted
#    88  flags of a signal's handler that have the system call restarted all the same
#    96  a kernel's struct sigaction
#   128  state of x87, SSE, AVX and AVX-512 (at most 4096 bytes)
# The saved registers, in the order of the pops, end 128 bytes (the red zone) below the thread's own stack pointer.
# The page: 0 PyRun_SimpleString, 8 its own size, 16 the source.

        .text
        .ascii  "squash/1"
entry:
        mov     %rsp, %rbp
        mov     $14, %eax                       # rt_sigprocmask(SIG_SETMASK, meanwhile, before, 8)
        mov     $2, %edi
        lea     56(%rbp), %rsi
        lea     48(%rbp), %rdx
        mov     $8, %r10d
        syscall
        mov     $0xe7, %eax
        xor     %edx, %edx
        xsave64 128(%rbp)
        fninit                                  # what a signal's handler would find
        movl    $0x1f80, 56(%rbp)
        ldmxcsr 56(%rbp)

        mov     $9, %eax                        # mmap(0, size, READ | WRITE, PRIVATE | ANONYMOUS, -1, 0)
        xor     %edi, %edi
        mov     32(%rbp), %rsi
        mov     $3, %edx
        mov     $0x22, %r10d
        mov     $-1, %r8
        xor     %r9d, %r9d
        syscall
        mov     %rax, %rbx
        cmp     $-4096, %rax
        ja      back
        mov     %rax, %r12
        mov     8(%rbp), %rax
        mov     %rax, (%r12)
        mov     32(%rbp), %rax
        mov     %rax, 8(%r12)
        lea     16(%r12), %rdi
        mov     72(%rbp), %rsi
        mov     40(%rbp), %rcx
        rep movsb

        mov     (%rbp), %rax
        test    %rax, %rax
        jz      queue
        call    *%rax
        mov     %eax, %r13d
        mov     %r12, %rdi
        call    work
        mov     %r13d, %edi
        call    *16(%rbp)
        xor     %ebx, %ebx
        jmp     back
queue:
        lea     work(%rip), %rdi
        mov     %r12, %rsi
        call    *24(%rbp)
        movslq  %eax, %rbx
        test    %eax, %eax
        jz      back
        mov     $11, %eax                       # munmap(page, size)
        mov     %r12, %rdi
        mov     32(%rbp), %rsi
        syscall

back:
        mov     $39, %eax                       # getpid(): the injector, if it is still there, sees the outcome in rbx
        syscall
        # A signal that came meanwhile must interrupt a system call just as it would have without us.
        cmpq    $0, 80(%rbp)
        je      restore
        mov     $127, %eax                      # rt_sigpending(came, 8)
        lea     56(%rbp), %rdi
        mov     $8, %esi
        syscall
        mov     48(%rbp), %rax
        not     %rax
        and     56(%rbp), %rax
        jz      restore
        bsf     %rax, %rdi
        inc     %edi
        mov     $13, %eax                       # rt_sigaction(the first of them, 0, action, 8)
        xor     %esi, %esi
        lea     96(%rbp), %rdx
        mov     $8, %r10d
        syscall
        cmpq    $1, 96(%rbp)                    # SIG_DFL or SIG_IGN: nothing of the program is called
        jbe     restore
        mov     88(%rbp), %rax
        test    %rax, 104(%rbp)
        jnz     restore
        mov     64(%rbp), %rsi
        movq    $-4, 112(%rsi)                  # EINTR
        mov     80(%rbp), %rax
        mov     %rax, 128(%rsi)
restore:
        mov     $0xe7, %eax
        xor     %edx, %edx
        xrstor64 128(%rbp)
        mov     $14, %eax                       # rt_sigprocmask(SIG_SETMASK, before, 0, 8)
        mov     $2, %edi
        lea     48(%rbp), %rsi
        xor     %edx, %edx
        mov     $8, %r10d
        syscall
        mov     64(%rbp), %rsp
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        pop     %r11
        pop     %r10
        pop     %r9
        pop     %r8
        pop     %rcx
        pop     %rdx
        pop     %rsi
        pop     %rdi
        pop     %rax
        popfq
        ret     $128

work:   # int work(page): runs the source and gives the page back
        push    %rbx
        mov     %rdi, %rbx
        lea     16(%rdi), %rdi
        call    *(%rbx)
        mov     $11, %eax                       # munmap(page, size)
        mov     %rbx, %rdi
        mov     8(%rbx), %rsi
        syscall
        xor     %eax, %eax
        pop     %rbx
        ret
