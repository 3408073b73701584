/* Removes the unwinding tables of outlined functions from object files for x86-64:

       outlined OBJECT...

   LLVM's machine outliner moves equal pieces of code into new functions. On x86-64 such a piece has no calls, because a
   call moves the stack pointer. So no panic passes through an outlined function. Still, LLVM writes an unwinding table
   (an FDE) of 32 bytes for each of them, which is more than most of them save.

   This program removes the symbol from the relocation of each such FDE. The linker then drops the FDE, as it does with
   those that `ld -r` leaves behind. */
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int take_out(const char *path)
{
    static const char prefix[] = ".text.OUTLINED_FUNCTION_";
    struct stat status;
    int file = open(path, O_RDWR);
    if (file < 0 || fstat(file, &status) < 0) {
        perror(path);
        return 1;
    }
    char *start = mmap(NULL, status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (start == MAP_FAILED) {
        perror(path);
        return 1;
    }
    const Elf64_Ehdr *head = (const Elf64_Ehdr *)start;
    if (memcmp(head->e_ident, ELFMAG, SELFMAG) || head->e_machine != EM_X86_64 || head->e_type != ET_REL) {
        fprintf(stderr, "%s: expected an object for x86-64\n", path);
        return 1;
    }
    const Elf64_Shdr *sections = (const Elf64_Shdr *)(start + head->e_shoff);
    /* With 65,280 sections or more, the ELF header has no room for the counts: the first section header has them. */
    size_t count = head->e_shnum ? head->e_shnum : sections[0].sh_size;
    const char *names = start + sections[head->e_shstrndx == SHN_XINDEX ? sections[0].sh_link : head->e_shstrndx].sh_offset;
    const Elf64_Sym *symbols = NULL;
    const Elf64_Word *large = NULL;
    for (size_t at = 0; at < count; at++) {
        if (sections[at].sh_type == SHT_SYMTAB)
            symbols = (const Elf64_Sym *)(start + sections[at].sh_offset);
        if (sections[at].sh_type == SHT_SYMTAB_SHNDX)
            large = (const Elf64_Word *)(start + sections[at].sh_offset);
    }
    for (size_t at = 0; at < count; at++) {
        if (sections[at].sh_type != SHT_RELA || strcmp(names + sections[at].sh_name, ".rela.eh_frame"))
            continue;
        Elf64_Rela *relocations = (Elf64_Rela *)(start + sections[at].sh_offset);
        for (size_t i = 0; i < sections[at].sh_size / sizeof *relocations; i++) {
            size_t symbol = ELF64_R_SYM(relocations[i].r_info);
            size_t section = symbols[symbol].st_shndx;
            if (section == SHN_XINDEX)
                section = large[symbol];
            else if (section >= SHN_LORESERVE)
                continue;
            if (!strncmp(names + sections[section].sh_name, prefix, sizeof prefix - 1))
                relocations[i].r_info = ELF64_R_INFO(0, ELF64_R_TYPE(relocations[i].r_info));
        }
    }
    munmap(start, status.st_size);
    return 0;
}

int main(int count, char **paths)
{
    for (int at = 1; at < count; at++)
        if (take_out(paths[at]))
            return 1;
    return 0;
}
