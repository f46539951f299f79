#!/bin/sh
# Compiles evloop.h in each way to include it, with each compiler at hand, and runs what can be run.
#
#     sh tests/compile.sh [TOOLCHAIN...]        such as gcc-c99; default: all
#     JOBS=n sh tests/compile.sh                how many at a time, default 2
#     ZIG=path sh tests/compile.sh              the zig that compiles for other systems
#
# The programs are in tests/compile/. What is compiled for Windows runs where wine is, what is for
# another processor where qemu is; the rest is only linked. Nothing but build/ is written: some
# compilers, run by root, replace a device that they are told to write to.

set -u
cd "$(dirname "$0")/.." || exit 2

out=build/compile
programs=tests/compile
warnings='-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wundef -Werror'
zig=${ZIG:-zig}
parts='NET FS DNS PROCESS SIGNAL FS_EVENT TTY THREADS OS DIAG'

# Name, and the compiler with what selects the language.
toolchains() {
    cat <<'TABLE'
gcc-c99 gcc -std=c99
gcc-c11 gcc -std=c11
gcc-gnu17 gcc -std=gnu17
g++-c++11 g++ -x c++ -std=c++11
g++-c++20 g++ -x c++ -std=c++20
clang-c99 clang -std=c99
clang-c11 clang -std=c11
clang++-c++11 clang++ -x c++ -std=c++11
clang++-c++20 clang++ -x c++ -std=c++20
tcc-c99 tcc -std=c99
tcc-c11 tcc -std=c11
musl-c99 musl-gcc -std=c99
musl-c11 musl-gcc -std=c11
gcc-m32-c99 gcc -m32 -std=c99
g++-m32-c++11 g++ -m32 -x c++ -std=c++11
mingw-c99 x86_64-w64-mingw32-gcc -std=c99
mingw-c11 x86_64-w64-mingw32-gcc -std=c11
mingw-c++11 x86_64-w64-mingw32-g++ -x c++ -std=c++11
mingw-c++20 x86_64-w64-mingw32-g++ -x c++ -std=c++20
TABLE
    if ! command -v "$zig" >/dev/null; then
        echo "zig $zig"
        return
    fi
    for target in x86_64-macos aarch64-macos x86-windows-gnu aarch64-linux-musl \
        x86_64-windows-gnu aarch64-windows-gnu riscv64-linux-musl; do
        for language in c99 c11; do
            echo "zig-$target-$language $zig cc -target $target -std=$language"
        done
        for language in c++11 c++20; do
            echo "zig-$target-$language $zig cc -target $target -x c++ -std=$language"
        done
    done
}

# ---- The cases of one toolchain: a shell script each ----

first_number=1001 # the same number of digits for all keeps the files in order
number=$((first_number - 1))

add_case() { # TITLE SCRIPT
    number=$((number + 1))
    echo "$toolchain: $1" >$out/$number.title
    printf 'set -e\n%s\n' "$2" >$out/$number.sh
}

compiles() { # TITLE FLAGS FILE
    add_case "$1" "$cc $2 -c -o $out/\$1.o $programs/$3"
}

runs() { # TITLE FLAGS FILES...
    title=$1 flags=$2 files=
    shift 2
    for file in "$@"; do
        files="$files $programs/$file"
    done
    case $launch in
    'test -s') title="$title (only linked)" ;;
    '') title="$title (only compiled)" ;;
    esac
    add_case "$title" "$(program "$cc $flags" "$files")"
}

# Makes $1.exe of the files, and runs it.
program() { # COMPILER-WITH-FLAGS FILES
    if [ -n "$launch" ]; then
        echo "$1 -o $out/\$1.exe $2 $libraries
$launch $out/\$1.exe"
    else
        for file in $2; do
            echo "$1 -c -o $out/\$1.o $file"
        done
    fi
}

# The compiler must refuse, and name TEXT.
refuses() { # TITLE FLAGS FILE TEXT
    add_case "$1" "! $cc $2 -c -o $out/\$1.o $programs/$3 >$out/\$1.refusal 2>&1
cat $out/\$1.refusal
grep -q 'error.*$4' $out/\$1.refusal"
}

code() { # FLAGS...
    cc -std=c99 -E -P -DEVLOOP_IMPLEMENTATION "$@" -x c evloop.h
}

# The parts that this version has: leaving out another one gives the same code.
find_parts_that_matter() {
    parts_that_matter=
    code >$out/all.i
    for part in $parts; do
        code -DEVLOOP_NO_$part >$out/part.i
        cmp -s $out/all.i $out/part.i || parts_that_matter="$parts_that_matter $part"
    done
}

every_part_out() {
    for part in $parts; do
        printf ' -DEVLOOP_NO_%s' $part
    done
}

add_parts() {
    for part in $parts_that_matter; do
        runs "smoke without $part" "-DEVLOOP_NO_$part" smoke.c
    done
    runs 'smoke without all of these' "$(every_part_out)" smoke.c
    runs 'static without all of these' "$(every_part_out)" static_unused.c
    compiles 'declarations without all of these' "$(every_part_out)" declarations.c
}

# Sizes with each part left out, against those with all.
add_layout() {
    script="$(program "$cc -w" $programs/layout.c) >$out/\$1.all"
    for macro in $(for part in $parts; do echo EVLOOP_NO_$part; done) EVLOOP_STATIC EVLOOP_UV_NAMES; do
        script="$script
$(program "$cc -w -D$macro" $programs/layout.c) >$out/\$1.some
if grep -vxFf $out/\$1.all $out/\$1.some; then echo 'differs under $macro'; exit 1; fi"
    done
    add_case 'sizes of the public types do not depend on macros' "$script"
}

# All that the tests consist of, without running it.
add_tests() {
    script="awk -f tests/list.awk $tests >$out/tests.inc.\$1
mkdir -p $out/\$1.d
mv $out/tests.inc.\$1 $out/\$1.d/tests.inc
$cc -I$out/\$1.d -c -o $out/\$1.d/main.o tests/main.c"
    for file in $tests; do
        script="$script
$cc -c -o $out/\$1.d/$(basename "$file" .c).o $file"
    done
    add_case 'the tests compile' "$script"
}

# What the examples' own commands compile without warnings turned on.
add_examples() {
    for file in examples/*.c; do
        add_case "$file" "$cc -c -o $out/\$1.o $file"
    done
}

add_cases() {
    compiles 'only declarations' '' declarations.c
    compiles 'only declarations, under libuv names' -DEVLOOP_UV_NAMES declarations.c
    runs 'one file' '' smoke.c
    runs 'one file, optimised' -O2 smoke.c
    case $toolchain in # what differs from the oldest standard shows in these
    *-c11 | *-gnu17)
        runs 'static, nothing used' '' static_unused.c
        runs 'libuv names, static' -DEVLOOP_STATIC uv_names.c
        runs 'static without all of these' "$(every_part_out)" static_unused.c
        return
        ;;
    esac
    runs 'two files, one with the implementation' -DSMOKE_SPLIT smoke.c implementation.c
    runs 'declarations behind system headers' '' system_first.c implementation.c
    runs 'implementation behind system headers' '' system_first_all.c
    runs 'static' -DEVLOOP_STATIC smoke.c
    runs 'static, optimised' '-O2 -DEVLOOP_STATIC' smoke.c
    runs 'static, nothing used' '' static_unused.c
    runs 'static, in two files' '' static_pair.c static_other.c
    runs 'libuv names' '' uv_names.c
    runs 'libuv names, static' -DEVLOOP_STATIC uv_names.c
    runs 'libuv names, implementation without them' -DUV_NAMES_SPLIT uv_names.c implementation.c
    runs 'own allocator' '' allocator.c
    refuses 'own allocator, in part' '' error_allocator.c EVLOOP_MALLOC
    case $toolchain in
    tcc*) ;; # has no atomics to name
    *) runs 'own atomics' '' atomics.c ;;
    esac
    case $toolchain in
    musl*) ;; # decides for each header anew
    *-c99) refuses 'implementation too late' '' error_late.c _GNU_SOURCE ;;
    esac
    case $toolchain in
    gcc-c99 | clang-c99) refuses 'unknown atomics' -U__GNUC__ implementation.c EVLOOP_ATOMIC_LOAD ;;
    esac
    add_parts
    case $toolchain in # the tests are run as built by the other compilers
    clang-c99 | clang++-c++11 | g++-c++20) add_tests ;;
    esac
    case $toolchain in
    gcc-c99 | gcc-m32-c99 | tcc-c99) add_layout ;;
    esac
    case $toolchain in
    gcc-c99 | clang-c99) add_examples ;;
    esac
}

# For other systems, which take more time: what may differ there.
add_far_cases() {
    runs 'static, nothing used' '' static_unused.c
    case $toolchain in
    *-c11 | *-c++20) return ;;
    esac
    compiles 'only declarations' '' declarations.c
    runs 'one file' '' smoke.c
    case $toolchain in
    zig-x86_64-macos* | zig-x86-windows*) return ;; # the other macOS and mingw stand for them
    esac
    [ -n "$launch" ] || return
    runs 'two files, one with the implementation' -DSMOKE_SPLIT smoke.c implementation.c
    runs 'declarations behind system headers' '' system_first.c implementation.c
    runs 'implementation behind system headers' '' system_first_all.c
    runs 'static' -DEVLOOP_STATIC smoke.c
    runs 'libuv names' '' uv_names.c
    runs 'libuv names, implementation without them' -DUV_NAMES_SPLIT uv_names.c implementation.c
    runs 'own allocator' '' allocator.c
    add_parts
    case $toolchain in
    mingw*) runs 'what is only for MSVC' -Wno-unknown-pragmas msvc.c ;;
    esac
    case $toolchain in
    mingw-c++11 | zig-aarch64-macos-c99) add_tests ;;
    esac
}

# `libraries` is what the linker needs. `launch` runs the program: `test -s` where it is only linked,
# nothing where it is only compiled. (Before it links for a target the first time, zig has to build its
# C library; and mingw links for x86_64 Windows, tests/cross.sh for riscv64.)
add_toolchain() {
    libraries=-pthread launch='timeout 20' add=add_cases
    case $toolchain in
    mingw*) libraries=-lws2_32 launch='timeout 60 wine' add=add_far_cases ;;
    zig-x86-windows*) libraries=-lws2_32 launch='test -s' add=add_far_cases ;;
    zig-*-macos*) launch='test -s' add=add_far_cases ;;
    zig-aarch64-linux*) launch='timeout 20 qemu-aarch64' add=add_far_cases ;;
    zig*) launch= add=add_far_cases ;;
    esac
    case $toolchain in
    tcc*) cc="$cc -Wall -Werror" ;;
    *) cc="$cc $warnings" ;;
    esac
    if ! builds_here; then
        add_case 'is not installed # SKIP' 'exit 77'
        return
    fi
    case $launch in
    *wine* | *qemu*) $launch $out/probe.exe >$out/probe.log 2>&1 || launch='test -s' ;;
    esac
    $add
}

builds_here() {
    echo '#include <errno.h>
#include <stdio.h>
int main(void) { return 0; }' >$out/probe.c
    if [ -n "$launch" ]; then
        $cc -o $out/probe.exe $out/probe.c $libraries >$out/probe.log 2>&1
    else
        $cc -c -o $out/probe.o $out/probe.c >$out/probe.log 2>&1
    fi
}

# ---- Running and reporting ----

run_case() { # NUMBER
    timeout 240 sh $out/$1.sh $1 >$out/$1.log 2>&1
    echo $? >$out/$1.status
}

report() {
    passed=0 failed=0 skipped=0
    for file in $out/*.title; do
        number=$(basename "$file" .title)
        title=$(cat "$file")
        case $(cat $out/$number.status) in
        0) passed=$((passed + 1)) mark=ok ;;
        77) skipped=$((skipped + 1)) mark=ok ;;
        *) failed=$((failed + 1)) mark='not ok' ;;
        esac
        echo "$mark $((number - first_number + 1)) - $title"
        if [ "$mark" = 'not ok' ]; then
            sed 's/^/# /' $out/$number.sh
            echo "# | status $(cat $out/$number.status)"
            sed -e 's/^/# | /' -e 40q $out/$number.log
        fi
    done
    if [ $skipped -gt 0 ]; then
        echo "$passed passed, $failed failed, $skipped skipped"
    else
        echo "$passed passed, $failed failed"
    fi
    [ $failed -eq 0 ] && [ $passed -gt 0 ]
}

if [ "${1:-}" = --case ]; then
    run_case "$2"
    exit 0
fi

wanted=" $* "
tests=$(echo tests/test_*.c)
rm -rf $out
mkdir -p $out
export ZIG_LOCAL_CACHE_DIR="$PWD/build/zig" ZIG_GLOBAL_CACHE_DIR="$PWD/build/zig"
export WINEPREFIX="${WINEPREFIX:-$PWD/build/wine}" WINEDEBUG=-all
find_parts_that_matter
toolchains >$out/toolchains
while read -r toolchain cc; do
    case $wanted in
    '  ' | *" $toolchain "*) add_toolchain ;;
    esac
done <$out/toolchains
for file in $out/*.title; do
    basename "$file" .title
done | xargs -n 1 -P "${JOBS:-2}" sh tests/compile.sh --case
report
