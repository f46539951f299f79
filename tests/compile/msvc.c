/* What evloop.h has for MSVC alone, by another compiler for Windows: the system's headers learn what
 * they are compiled by, and evloop.h that it is MSVC. */
#include <winsock2.h>
#include <ws2tcpip.h>
#include <mstcpip.h>
#include <windows.h>

#include <errno.h>
#include <fcntl.h>
#include <intrin.h>
#include <io.h>
#include <limits.h>
#include <process.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

typedef void(__cdecl *msvc_handler_fn)(const wchar_t *, const wchar_t *, const wchar_t *,
                                       unsigned int, uintptr_t);

/* Of MSVC's C library; this compiler's has none. */
static msvc_handler_fn msvc_set_handler(msvc_handler_fn handler) {
    (void)handler;
    return NULL;
}
#define _set_thread_local_invalid_parameter_handler msvc_set_handler

#undef __GNUC__
#define _MSC_VER 1930
#include "smoke.c"
