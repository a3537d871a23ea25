/* Makes a C file an importable Python extension module without functions of its own: its exported C
   functions are called through ctypes, which releases the interpreter's lock meanwhile.

   KERNEL compiles a function for several instruction sets; the loader picks the best that the processor has,
   so that one build serves every node of a mixed cluster. */
#ifndef CALANDRIA_EXTENSION_H
#define CALANDRIA_EXTENSION_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
#define KERNEL __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define KERNEL
#endif

#define EXPORT __attribute__((visibility("default")))

#define EXTENSION_MODULE(name)                                                                                       \
    static struct PyModuleDef module_definition = {PyModuleDef_HEAD_INIT, #name, NULL, -1, NULL, NULL, NULL, NULL, NULL}; \
    PyMODINIT_FUNC PyInit_##name(void) { return PyModule_Create(&module_definition); }

#endif
