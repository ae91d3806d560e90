// Hides AVX-512, AMX and AVX-VNNI from a process, so that a machine which has them measures
// AVX2 alone. Needs a CPU with CPUID faulting (grep cpuid_fault /proc/cpuinfo), or the copies
// of avx2.py, whose traps replace CPUID.
//   gcc -shared -fPIC -O2 -o avx2.so avx2.c && LD_PRELOAD=$PWD/avx2.so python ...
#define _GNU_SOURCE
#include <signal.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012

static struct sigaction before[32];

static long faulting(long on) { return syscall(SYS_arch_prctl, ARCH_SET_CPUID, !on); }

static void masked(unsigned leaf, unsigned sub, unsigned *r) {
    faulting(0);
    __asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(sub));
    faulting(1);
    if (leaf == 7 && sub == 0) {
        r[1] &= ~(1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 | 1u << 31);
        r[2] &= ~(1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14);
        r[3] &= ~(1u << 2 | 1u << 3 | 1u << 8 | 1u << 22 | 1u << 23 | 1u << 24 | 1u << 25);
    }
    if (leaf == 7 && sub == 1) {
        r[0] &= ~(1u << 4 | 1u << 5 | 1u << 21 | 1u << 23);
        r[3] &= ~(1u << 4 | 1u << 5 | 1u << 8 | 1u << 10 | 1u << 19);
    }
}

static void handler(int signal, siginfo_t *info, void *at) {
    greg_t *g = ((ucontext_t *)at)->uc_mcontext.gregs;
    unsigned char *ip = (unsigned char *)g[REG_RIP];
    if ((signal == SIGSEGV && info->si_code == SI_KERNEL && ip[0] == 0x0f && ip[1] == 0xa2) ||
        (signal == SIGILL && ip[0] == 0x0f && ip[1] == 0x0b)) {
        unsigned r[4];
        masked((unsigned)g[REG_RAX], (unsigned)g[REG_RCX], r);
        g[REG_RAX] = r[0], g[REG_RBX] = r[1], g[REG_RCX] = r[2], g[REG_RDX] = r[3];
        g[REG_RIP] += 2;
        return;
    }
    sigaction(signal, &before[signal], NULL);
}

__attribute__((constructor)) static void begin(void) {
    struct sigaction ours = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    sigaction(SIGSEGV, &ours, &before[SIGSEGV]);
    sigaction(SIGILL, &ours, &before[SIGILL]);
    faulting(1);
}
