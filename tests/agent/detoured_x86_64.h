/* What a detour on x86-64 may spoil: for detoured.c. */

static void spoil(void) {
    __asm__ volatile(
        "mov $-1, %%rax\n mov %%rax, %%rcx\n mov %%rax, %%rdx\n mov %%rax, %%rsi\n mov %%rax, %%rdi\n"
        "mov %%rax, %%r8\n mov %%rax, %%r9\n mov %%rax, %%r10\n mov %%rax, %%r11\n"
        "pcmpeqd %%xmm0, %%xmm0\n pcmpeqd %%xmm1, %%xmm1\n pcmpeqd %%xmm7, %%xmm7\n pcmpeqd %%xmm15, %%xmm15\n"
        "fldpi\n fldpi\n fstp %%st(0)\n fstp %%st(0)\n clc\n"
        ::: "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "xmm0", "xmm1", "xmm7", "xmm15", "cc", "memory");
}

static const unsigned char pattern[32] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22};
static unsigned char found[32];

/* 0 when everything is as it was. The stack pointer cannot be spoilt without a crash. */
__attribute__((target("avx2"))) static long spin(void) {
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
