#!/bin/sh
# Runs all tests as built for other processors, under qemu's emulation of their system calls, and for
# 32 bits. There qemu has neither epoll_pwait2 nor io_uring: what takes their place is tested.
#
#     sh tests/cross.sh [VARIANT...]            such as s390x or m32; default: all
#     JOBS=n BACKENDS=poll sh tests/cross.sh    how many tests at a time, default 2; on which pollers, all

set -u
cd "$(dirname "$0")/.." || exit 2

out=build/cross
selection="$*"
. tests/builds.sh

# The processor's own gcc; or clang, for which its headers and libraries are enough. (Debian's gcc for
# other processors cannot be installed beside the one for 32 bits.)
compiler_for() { # PROCESSOR
    if command -v $1-linux-gnu-gcc >/dev/null; then
        echo $1-linux-gnu-gcc
    else
        echo "clang --target=$1-linux-gnu"
    fi
}

processor() { # NAME
    wanted $1 || return
    compiler=$(compiler_for $1)
    emulator="qemu-$1 -L /usr/$1-linux-gnu"
    if works "$compiler" "$emulator"; then
        variant $1 CC="$compiler" EMULATOR="$emulator" CFLAGS='-O1 -g'
    else
        skip_variant $1 "no compiler, library or emulator for it"
    fi
}

thirty_two_bits() {
    wanted m32 || return
    if works 'gcc -m32'; then
        variant m32 CC='gcc -m32' CFLAGS='-O1 -g'
    else
        skip_variant m32 'gcc has no library for it'
    fi
}

thirty_two_bits
TEST_SLOW=1
TEST_TIMEOUT=${TEST_TIMEOUT:-60}
export TEST_SLOW TEST_TIMEOUT
processor aarch64
processor riscv64
processor s390x # the one with the most significant byte first
closing_line
