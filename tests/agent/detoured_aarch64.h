/* What a detour on aarch64 may spoil: for detoured.c. */
#include <sys/auxv.h>

static void spoil(void) {
    __asm__ volatile(
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18\n mov x\\n, #-1\n .endr\n"
        ".irp n, 0,1,2,3,4,5,6,7,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n movi v\\n\\().16b, #255\n .endr\n"
        "msr fpsr, x0\n cmn x0, x0\n"
        ::: "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16",
            "x17", "x18", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v16", "v17", "v18", "v19", "v20", "v21", "v22",
            "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31", "cc", "memory");
}

/* x1 to x30 hold 101 to 130, v0 to v31 twice one of them; carry is set, rounding is upwards, saturation has happened. */
static long spin_plain(void) {
    register long bad __asm__("x0");
    __asm__ volatile(
        "stp x29, x30, [sp, #-16]!\n"
        "mov x1, #0x400000\n msr fpcr, x1\n mov x1, #0x8000000\n msr fpsr, x1\n"
        ".irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30\n"
        "mov x\\n, #100 + \\n\n dup v\\n\\().2d, x\\n\n .endr\n"
        "dup v0.2d, x7\n dup v31.2d, x9\n"
        "mov x0, #20000\n lsl x0, x0, #4\n"
        "cmp x1, x1\n"
        "1: sub x0, x0, #1\n cbnz x0, 1b\n"
        "b.cc 2f\n b.ne 2f\n"
        ".irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30\n"
        "cmp x\\n, #100 + \\n\n b.ne 2f\n .endr\n"
        ".irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30\n"
        "umov x0, v\\n\\().d[0]\n cmp x0, #100 + \\n\n b.ne 2f\n"
        "umov x0, v\\n\\().d[1]\n cmp x0, #100 + \\n\n b.ne 2f\n .endr\n"
        "umov x0, v0.d[1]\n cmp x0, #107\n b.ne 2f\n umov x0, v31.d[1]\n cmp x0, #109\n b.ne 2f\n"
        "mrs x1, fpcr\n mov x2, #0x400000\n cmp x1, x2\n b.ne 2f\n"
        "mrs x1, fpsr\n mov x2, #0x8000000\n cmp x1, x2\n b.ne 2f\n"
        "mov x0, #0\n b 3f\n"
        "2: mov x0, #1\n"
        "3: msr fpcr, xzr\n msr fpsr, xzr\n"
        "ldp x29, x30, [sp], #16\n"
        : "=r"(bad)
        :: "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17",
           "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x30", "v0", "v1", "v2", "v3", "v4",
           "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21",
           "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31", "cc", "memory");
    return bad;
}

/* The whole of SVE's vectors, predicates and its first-fault register. */
static long spin_wide(void) {
    register long bad __asm__("x0");
    __asm__ volatile(
        ".arch_extension sve\n"
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30\n"
        "mov x1, #\\n\n index z\\n\\().d, x1, #3\n .endr\n"
        "ptrue p0.d\n ptrue p7.h\n pfalse p15.b\n ptrue p1.d, vl1\n setffr\n rdffr p2.b\n wrffr p1.b\n"
        "mov x0, #20000\n lsl x0, x0, #4\n"
        "1: sub x0, x0, #1\n cbnz x0, 1b\n"
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30\n"
        "mov x1, #\\n\n index z31.d, x1, #3\n cmpne p3.d, p0/z, z\\n\\().d, z31.d\n b.ne 2f\n .endr\n"
        "rdffr p3.b\n eors p3.b, p2/z, p3.b, p1.b\n b.ne 2f\n"
        "ptrue p3.h\n eors p3.b, p2/z, p3.b, p7.b\n b.ne 2f\n"
        "ptest p2, p15.b\n b.ne 2f\n"
        "mov x0, #0\n b 3f\n"
        "2: mov x0, #1\n"
        "3:\n"
        : "=r"(bad)
        :: "x1", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16",
           "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31", "cc",
           "memory");
    return bad;
}

/* 0 when everything is as it was. */
static long spin(void) {
    return spin_plain() | (getauxval(AT_HWCAP) & HWCAP_SVE ? spin_wide() : 0);
}
