#!/bin/sh
# Compiles evloop.h in each way to include it, with each compiler at hand, and runs what can be run.
#
#     sh tests/compile.sh [TOOLCHAIN...]        such as gcc-c99; default: all
#     JOBS=n sh tests/compile.sh                how many at a time, default 2
#
# The programs are in tests/compile/. Nothing but build/ is written: some compilers, run by root,
# replace a device that they are told to write to.

set -u
cd "$(dirname "$0")/.." || exit 2

out=build/compile
programs=tests/compile
warnings='-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wundef -Werror'
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
TABLE
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
    add_case "$title" "$cc $flags -o $out/\$1.exe $files -pthread
timeout 20 $out/\$1.exe"
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
    script="$cc -w -o $out/\$1.exe $programs/layout.c -pthread
$out/\$1.exe >$out/\$1.all"
    for macro in $(for part in $parts; do echo EVLOOP_NO_$part; done) EVLOOP_STATIC EVLOOP_UV_NAMES; do
        script="$script
$cc -w -D$macro -o $out/\$1.exe $programs/layout.c -pthread
$out/\$1.exe >$out/\$1.some
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
    musl*) ;; # decides for each header anew
    *-c99 | *-c11) refuses 'implementation too late' '' error_late.c _GNU_SOURCE ;;
    esac
    add_parts
    add_tests
    case $toolchain in
    gcc-c99 | gcc-m32-c99 | tcc-c99) add_layout ;;
    esac
    case $toolchain in
    gcc-c99 | clang-c11) add_examples ;;
    esac
}

add_toolchain() {
    case $toolchain in
    tcc*) cc="$cc -Wall -Werror" ;;
    *) cc="$cc $warnings" ;;
    esac
    echo '#include <pthread.h>
int main(void) { return 0; }' >$out/probe.c
    if $cc -o $out/probe.exe $out/probe.c >$out/probe.log 2>&1 && $out/probe.exe; then
        add_cases
    else
        add_case "is not installed # SKIP" 'exit 77'
    fi
}

# ---- Running and reporting ----

run_case() { # NUMBER
    timeout 120 sh $out/$1.sh $1 >$out/$1.log 2>&1
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
