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

#undef __GNUC__
#define _MSC_VER 1930
#include "smoke.c"
