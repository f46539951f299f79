#!/bin/sh
# Runs all tests as built by each compiler at hand, and with each part of the library left out.
#
#     sh tests/variants.sh [VARIANT...]         such as clang or no-net; default: all
#     JOBS=n sh tests/variants.sh               how many tests at a time, default 2
#     BACKENDS=poll sh tests/variants.sh        on which pollers, default all

set -u
cd "$(dirname "$0")/.." || exit 2

out=build/variants
parts='NET FS DNS PROCESS SIGNAL FS_EVENT TTY THREADS OS DIAG'
. tests/builds.sh

# As variant, when the compiler works here.
compiler_variant() { # NAME COMPILER MAKE-ARGUMENTS...
    name=$1
    shift
    wanted $name || return
    if works "$1"; then
        variant $name CC="$@"
    else
        skip_variant $name 'the compiler is not installed'
    fi
}

code() { # FLAGS...
    cc -std=c99 -E -P -DEVLOOP_IMPLEMENTATION "$@" -x c evloop.h
}

# A part that this version does not have leaves the code as it is; the tests need not run again.
part_variant() { # PART
    name=no-$(echo $1 | tr 'A-Z_' 'a-z-')
    wanted $name || return
    code -DEVLOOP_NO_$1 >$out/part.i
    if cmp -s $out/all.i $out/part.i; then
        echo "ok - $name: the same code as with it"
    else
        variant $name CFLAGS="-O1 -g -DEVLOOP_NO_$1"
    fi
}

selection="$*"
code >$out/all.i
compiler_variant gcc gcc CFLAGS='-O2 -g'
compiler_variant clang clang CFLAGS='-O1 -g'
compiler_variant g++ g++ LANGUAGE='-x c++ -std=c++11' CFLAGS='-O1 -g'
compiler_variant tcc tcc WARNINGS='-Wall -Werror' CFLAGS=-g
compiler_variant musl musl-gcc CFLAGS='-O1 -g'
for part in $parts; do
    part_variant $part
done
variant no-parts CFLAGS="-O1 -g $(for part in $parts; do printf ' -DEVLOOP_NO_%s' $part; done)"

closing_line
