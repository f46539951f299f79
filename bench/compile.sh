#!/bin/sh
# How long does the compiler take? All of evloop.h's implementation in one file, and libuv's sources one by
# one: user and system time of the compiler in seconds, at -O2, one process at a time. And how long does
# it take as libuv's own build does it, each file twice, for its static and its shared library?
#
#     LIBUV_DIR=path sh bench/compile.sh           (run.sh does it, too)
#
# From the environment: CC (cc), LIBUV_DIR (without it there is only evloop.h), LIBRARIES_FOUND ("evloop
# libuv"), ROUNDS (at most 3). The second needs cmake. Prints lines "question library round case unit value", with tabs.

set -u
cd "$(dirname "$0")/.." || exit 2

CC=${CC:-cc}
LIBUV_DIR=${LIBUV_DIR:-}
ROUNDS=${ROUNDS:-3}
[ "$ROUNDS" -le 3 ] || ROUNDS=3
out=build/bench/compile
mkdir -p $out
. bench/libuv.sh

compile_evloop() {
    echo '#include "evloop.h"' | $CC -std=gnu99 -O2 -DEVLOOP_IMPLEMENTATION -I. -x c -c - -o $out/evloop.o
}

compile_libuv() {
    libuv_compile $out/objects -O2
}

# What configuring takes does not count, and CMake's own part of building is small.
configure_libuv() {
    CC=$CC MAKEFLAGS='' cmake -S "$LIBUV_DIR" -B $out/cmake -G "Unix Makefiles" -DCMAKE_BUILD_TYPE= \
        -DCMAKE_C_FLAGS=-O2 -DBUILD_TESTING=OFF >$out/cmake.log 2>&1 ||
        { cat $out/cmake.log >&2 && return 1; }
}

build_libuv() {
    MAKEFLAGS='' cmake --build $out/cmake >$out/cmake.log 2>&1 || { cat $out/cmake.log >&2 && return 1; }
}

# The time of all children so far, into a file: in a subshell it would begin anew.
measure() { # LIBRARY ROUND COMMAND CASE...
    library=$1 round=$2
    times >$out/before
    $3 || exit 1
    times >$out/after
    shift 3
    for name in "$@"; do
        cat $out/before $out/after | awk -v line="compile	$library	$round	$name	s" '
            function seconds(text,    parts) {
                split(text, parts, "m")
                return parts[1] * 60 + parts[2]
            }
            NR == 2 { before = seconds($1) + seconds($2) }
            NR == 4 { printf "%s\t%.3f\n", line, seconds($1) + seconds($2) - before }'
    done
}

# There is one way to build evloop.h.
measure_evloop() { # ROUND
    measure evloop $1 compile_evloop "whole library" ${own_build:+"$own_build"}
}

measure_libuv() { # ROUND
    measure libuv $1 compile_libuv "whole library"
    [ -n "$own_build" ] || return 0
    rm -rf $out/cmake
    configure_libuv || exit 1
    measure libuv $1 build_libuv "$own_build"
}

libraries=
own_build= # the case's name, when there is something to compare
for library in ${LIBRARIES_FOUND:-evloop libuv}; do
    case $library in
    evloop) libraries="$libraries evloop" ;;
    libuv)
        if [ -n "$LIBUV_DIR" ]; then
            libraries="$libraries libuv"
            if command -v cmake >/dev/null; then
                own_build="whole library, libuv by its own build"
            else
                echo "compile: cmake is missing, so libuv's own build is left out" >&2
            fi
        else
            echo "compile: libuv is left out: LIBUV_DIR does not say where its sources are" >&2
        fi
        ;;
    esac
done

round=1
while [ "$round" -le "$ROUNDS" ]; do
    for library in $libraries; do
        measure_$library $round
    done
    round=$((round + 1))
done
