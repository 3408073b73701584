/* The entry point of the program. It applies the packed relative relocations (DT_RELR), then calls musl's entry point.

   A position-independent program has about 60,000 pointers to which its load address must be added. A plain relocation
   (DT_RELA) needs 24 bytes for each pointer. A packed one needs about one bit, so packing saves 1.4 MB.

   musl applies packed relocations since version 1.2.4. The musl of Debian 12 and of older Rust versions ignores them.
   This entry point works with both, because it sets the size of the list (DT_RELRSZ) to 0 after it applied it.

   Source: System V generic ABI, "Relative Relocation Table". */
#include <elf.h>
#include <link.h>
#include <stdint.h>

#ifndef DT_RELR
#define DT_RELRSZ 35
#define DT_RELR 36
#endif

extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern ElfW(Dyn) _DYNAMIC[] __attribute__((visibility("hidden")));

__attribute__((used, visibility("hidden"))) void onnxd_relocate(void)
{
    uintptr_t base = (uintptr_t)__ehdr_start;
    const uintptr_t *entry = 0;
    uintptr_t *next = 0;
    ElfW(Dyn) *size = 0;

    for (ElfW(Dyn) *tag = _DYNAMIC; tag->d_tag != DT_NULL; tag++) {
        if (tag->d_tag == DT_RELR)
            entry = (const uintptr_t *)(base + tag->d_un.d_ptr);
        if (tag->d_tag == DT_RELRSZ)
            size = tag;
    }
    if (!entry || !size)
        return;
    for (; size->d_un.d_val; entry++, size->d_un.d_val -= sizeof *entry) {
        /* An even entry is the address of one word. Odd entries are bitmaps for the words after it. */
        if (!(*entry & 1)) {
            next = (uintptr_t *)(base + *entry);
            *next++ += base;
            continue;
        }
        for (uintptr_t bits = *entry >> 1, *word = next; bits; bits >>= 1, word++)
            if (bits & 1)
                *word += base;
        next += 8 * sizeof *entry - 1;
    }
}

#if defined __x86_64__
__asm__(".globl onnxd_start\n.type onnxd_start,@function\nonnxd_start:\n"
        "    call onnxd_relocate\n"
        "    jmp _start\n");
#elif defined __aarch64__
__asm__(".globl onnxd_start\n.type onnxd_start,%function\nonnxd_start:\n"
        "    bl onnxd_relocate\n"
        "    b _start\n");
#else
#error "an entry for this architecture is to be written"
#endif
