/* Room for arrays. Large ones ask for huge pages: to touch a fresh page of 4 kB costs more than what is computed on it. */
#ifndef CALANDRIA_TRANSPORT_MEMORY_H
#define CALANDRIA_TRANSPORT_MEMORY_H
#include <stdint.h>
#include <stdlib.h>
#if defined(__linux__)
#include <malloc.h>
#include <sys/mman.h>
#endif

static void *in_huge_pages(void *block, size_t size)
{
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    const uintptr_t page = 4096, from = ((uintptr_t)block + page - 1) / page * page, to = ((uintptr_t)block + size) / page * page;
    if (block && size >= ((size_t)4 << 20)) madvise((void *)from, to - from, MADV_HUGEPAGE); /* only a wish */
#endif
    return block;
}

/* Gives pages that were freed between others back to the system. */
static void trim_memory(void)
{
#if defined(__GLIBC__)
    malloc_trim(0);
#endif
}

/* Room for `count` things and one more, uninitialised or zero; NULL without memory. */
#define ROOM(type, count) ((type *)in_huge_pages(malloc(((size_t)(count) + 1) * sizeof(type)), ((size_t)(count) + 1) * sizeof(type)))
#define ZEROS(type, count) ((type *)in_huge_pages(calloc((size_t)(count) + 1, sizeof(type)), ((size_t)(count) + 1) * sizeof(type)))
#endif
