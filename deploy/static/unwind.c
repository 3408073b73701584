/* The functions of the C library that GCC's unwinder (libgcc_eh) needs and musl does not have. */
#include <link.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

/* The result of _dl_find_object, glibc's fast search for the unwinding table of the object that contains a code
   address. Source: glibc 2.35, dl_find_object.h. */
struct dl_find_object {
    unsigned long long dlfo_flags;
    void *dlfo_map_start;
    void *dlfo_map_end;
    struct link_map *dlfo_link_map;
    void *dlfo_eh_frame;
    unsigned long long reserved[7];
};

struct search {
    uintptr_t address;
    struct dl_find_object *found;
};

/* Called for each loaded object. Returns 1 when the object has the address and a table: this ends the search. */
static int look(struct dl_phdr_info *object, size_t size, void *argument)
{
    struct search *search = argument;
    uintptr_t start = UINTPTR_MAX, end = 0, table = 0;
    int here = 0;

    (void)size;
    for (size_t at = 0; at < object->dlpi_phnum; at++) {
        const ElfW(Phdr) *header = &object->dlpi_phdr[at];
        uintptr_t from = object->dlpi_addr + header->p_vaddr, to = from + header->p_memsz;

        if (header->p_type == PT_LOAD) {
            if (from < start)
                start = from;
            if (to > end)
                end = to;
            if (search->address >= from && search->address < to)
                here = 1;
        } else if (header->p_type == PT_GNU_EH_FRAME) {
            table = from;
        }
    }
    if (!here || !table)
        return 0;
    search->found->dlfo_flags = 0;
    search->found->dlfo_map_start = (void *)start;
    search->found->dlfo_map_end = (void *)end;
    search->found->dlfo_link_map = NULL;
    search->found->dlfo_eh_frame = (void *)table;
    return 1;
}

/* Returns 0 when an object was found, and -1 otherwise, as in glibc. */
int _dl_find_object(void *address, struct dl_find_object *result)
{
    struct search search = { (uintptr_t)address, result };

    return dl_iterate_phdr(look, &search) ? 0 : -1;
}

/* libgcc has weak references to these functions, to find out whether the program has threads. The linker takes nothing
   from a static library for a weak reference, so some would be missing, and the first panic would call address 0. This
   array refers to them strongly. */
__attribute__((used)) static void *const needed[] = {
    (void *)pthread_once,        (void *)pthread_mutex_lock,  (void *)pthread_mutex_unlock,
    (void *)pthread_key_create,  (void *)pthread_getspecific, (void *)pthread_setspecific,
    (void *)pthread_create,
};
