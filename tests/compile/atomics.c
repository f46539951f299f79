/* The program's own atomics, for compilers that the library does not know. */
#define EVLOOP_ATOMIC_LOAD(p)            __atomic_load_n(p, __ATOMIC_SEQ_CST)
#define EVLOOP_ATOMIC_STORE(p, value)    __atomic_store_n(p, value, __ATOMIC_SEQ_CST)
#define EVLOOP_ATOMIC_EXCHANGE(p, value) __atomic_exchange_n(p, value, __ATOMIC_SEQ_CST)
#define EVLOOP_ATOMIC_OR(p, bits)        __atomic_fetch_or(p, bits, __ATOMIC_SEQ_CST)
#define EVLOOP_ATOMIC_ADD(p, value)      __atomic_fetch_add(p, value, __ATOMIC_SEQ_CST)

#define EVLOOP_ATOMIC_LOAD_PTR(p)            __atomic_load_n(p, __ATOMIC_SEQ_CST)
#define EVLOOP_ATOMIC_EXCHANGE_PTR(p, value) __atomic_exchange_n(p, value, __ATOMIC_SEQ_CST)
#define EVLOOP_ATOMIC_CAS_PTR(p, expected, value)                                                  \
    __atomic_compare_exchange_n(p, expected, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)

#include "smoke.c"
