# `make run` and `make test` need a C compiler, make and a POSIX shell with sed and awk. `make help` lists the rest.

CC     = cc
CFLAGS = -O2 -g
LANGUAGE = -std=c99
WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wundef -Werror
LDFLAGS  = -pthread

# The pollers on which each test runs, by system; BACKENDS= leaves the choice to the loop.
SYSTEM   := $(shell uname -s)
BACKENDS = $(if $(filter Linux,$(SYSTEM)),epoll$(comma),$(if $(filter $(KQUEUES),$(SYSTEM)),kqueue$(comma)))poll
KQUEUES  = Darwin FreeBSD OpenBSD NetBSD DragonFly
comma    = ,

# What runs the tests, and each of their processes, when CC builds for another processor.
EMULATOR =

# Each way to build the tests has its directory.
VARIANT = plain
OUT     = build/$(VARIANT)

TEST_SOURCES := $(sort $(wildcard tests/test_*.c))
TEST_HEADERS := $(wildcard tests/*.h)
TEST_OBJECTS  = $(OUT)/main.o $(TEST_SOURCES:tests/%.c=$(OUT)/%.o)
TEST_OPTIONS  = $(if $(BACKENDS),--backends $(BACKENDS)) $(if $(FILTER),--filter $(FILTER)) \
                $(if $(SHUFFLE),$(if $(filter 1,$(SHUFFLE)),--shuffle,--shuffle=$(SHUFFLE))) \
                $(if $(JOBS),--jobs $(JOBS)) $(if $(REPEAT),--repeat $(REPEAT))
TEST_RUN      = $(if $(EMULATOR),TEST_WRAPPER='$(EMULATOR)' $(EMULATOR)) $(OUT)/tests $(TEST_OPTIONS)
SLOW          = TEST_SLOW=1 TEST_TIMEOUT=$${TEST_TIMEOUT:-60}

EXAMPLES := $(sort $(wildcard examples/*.c))

# need(command, package): stops with one line when the command is missing.
need = command -v $(1) >/dev/null || { echo "'$(1)' is missing; install it, for example: apt-get install $(2)" >&2; exit 1; }

.PHONY: help run test tests examples windows test-windows macos macos-x86_64 macos-aarch64 out-examples lint format format-check asan tsan valgrind compile coverage test-compilers test-cross bench bench-chart bench-check clean FORCE

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' Makefile

run: ## build and run the HTTP server example; ARGS="--listen 127.0.0.1:8080 --root DIR" serves a directory
	@sh tests/examples.sh examples/httpd.c
	build/examples/httpd $(or $(ARGS),--demo)

test: tests ## run the tests; FILTER=text,text SHUFFLE=1|seed JOBS=n REPEAT=n BACKENDS=epoll,poll
	$(TEST_RUN)

# A kqueue from elsewhere, such as libkqueue on Linux: KQUEUE_CFLAGS=-I… KQUEUE_LIBS=….
ifdef KQUEUE_LIBS
VARIANT  = kqueue
BACKENDS = kqueue
CFLAGS  += -DEVLOOP_USE_KQUEUE $(KQUEUE_CFLAGS)
LDFLAGS += $(KQUEUE_LIBS)
endif

# ---- The test binary ----

tests: $(OUT)/tests$(EXE)

$(OUT)/tests$(EXE): $(TEST_OBJECTS)
	$(CC) $(CFLAGS) -o $@ $(TEST_OBJECTS) $(LDFLAGS)

$(OUT)/main.o: tests/main.c $(TEST_HEADERS) evloop.h $(OUT)/tests.inc $(OUT)/flags
	$(CC) $(LANGUAGE) $(CFLAGS) $(WARNINGS) -I$(OUT) -c -o $@ tests/main.c

$(OUT)/test_%.o: tests/test_%.c $(TEST_HEADERS) evloop.h $(OUT)/flags
	$(CC) $(LANGUAGE) $(CFLAGS) $(WARNINGS) -c -o $@ $<

# One X(area, name) for each TEST(name), within the same preprocessor conditions.
$(OUT)/tests.inc: $(TEST_SOURCES) tests/list.awk Makefile | $(OUT)
	awk -f tests/list.awk $(TEST_SOURCES) >$@

# Changes when the flags do, so that everything is built again.
$(OUT)/flags: FORCE | $(OUT)
	@echo '$(CC) $(LANGUAGE) $(CFLAGS) $(WARNINGS) $(LDFLAGS)' | cmp -s - $@ || \
	    echo '$(CC) $(LANGUAGE) $(CFLAGS) $(WARNINGS) $(LDFLAGS)' >$@

$(OUT):
	@mkdir -p $@

FORCE:

# ---- Windows ----

MINGW            = x86_64-w64-mingw32-gcc
WINDOWS          = build/windows
WINDOWS_EXAMPLES = $(EXAMPLES:examples/%.c=$(WINDOWS)/%.exe)

windows: ## build the tests and the examples for Windows, into build/windows
	@$(call need,$(MINGW),gcc-mingw-w64-x86-64)
	@$(MAKE) --no-print-directory tests VARIANT=windows CC=$(MINGW) EXE=.exe LDFLAGS=-lws2_32
	@$(MAKE) --no-print-directory $(WINDOWS_EXAMPLES)

$(WINDOWS)/%.exe: examples/%.c evloop.h
	$(MINGW) $(LANGUAGE) $(CFLAGS) $(WARNINGS) -o $@ $< -lws2_32

test-windows: windows ## run the tests and the examples for Windows under wine; takes the options of `make test`
	@$(call need,wine,wine)
	WINEDEBUG=-all wine $(WINDOWS)/tests.exe --backends iocp $(filter-out --backends $(BACKENDS),$(TEST_OPTIONS))
	$(if $(FILTER),,sh tests/examples.sh --wine)

# ---- macOS ----

ZIG         ?= zig
MACOS        = macos-x86_64 macos-aarch64
OUT_EXAMPLES = $(EXAMPLES:examples/%.c=$(OUT)/%)

macos: $(MACOS) ## link the tests and the examples for macOS, into build/macos-*

$(MACOS): macos-%:
	@command -v $(ZIG) >/dev/null || \
	    { echo "'$(ZIG)' is missing; get it from https://ziglang.org/download, and say where by ZIG=path" >&2; exit 1; }
	@$(MAKE) --no-print-directory tests out-examples VARIANT=$@ CC='$(ZIG) cc -target $*-macos'

out-examples: $(OUT_EXAMPLES)

$(OUT_EXAMPLES): $(OUT)/%: examples/%.c evloop.h $(OUT)/flags
	$(CC) $(LANGUAGE) $(CFLAGS) $(WARNINGS) -o $@ $< $(LDFLAGS)

# ---- Checks that need more than a compiler ----

# Sanitizers and coverage make gcc warn of what is none; the plain build has had the warnings.
CHECKED = $(SLOW) $(MAKE) --no-print-directory test WARNINGS=

asan: ## run the tests under the address and undefined behaviour sanitizers
	$(CHECKED) VARIANT=asan \
	    CFLAGS='-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all \
    -DEVLOOP_DEBUG_ASSERT'

tsan: ## run the tests under the thread sanitizer
	$(CHECKED) VARIANT=tsan CFLAGS='-O1 -g -fsanitize=thread -DEVLOOP_DEBUG_ASSERT'

VALGRIND = valgrind -q --error-exitcode=9 --leak-check=full --show-leak-kinds=definite \
           --errors-for-leak-kinds=definite

valgrind: ## run the tests under valgrind
	@$(call need,valgrind,valgrind)
	TEST_WRAPPER='$(VALGRIND)' $(CHECKED) VARIANT=valgrind CFLAGS='-O1 -g'

compile: ## compile evloop.h in each way to include it, with each compiler at hand
	sh tests/compile.sh

test-compilers: ## run the tests as built by other compilers, and with each part left out
	sh tests/variants.sh

test-cross: ## run the tests as built for other processors, under emulators
	sh tests/cross.sh

coverage: ## print the share of evloop.h's lines that the tests run; below 90 % is an error
	@$(call need,gcc,gcc)
	@$(call need,gcovr,gcovr)
	@rm -f build/coverage/*.gcda
	@$(CHECKED) VARIANT=coverage CC=gcc CFLAGS='-O0 -g --coverage -fprofile-update=atomic'; status=$$?; \
	gcovr --root . --object-directory build/coverage --filter 'evloop\.h$$' --fail-under-line 90 \
	    --print-summary --html-details build/coverage/evloop.html \
	    --txt build/coverage/lines.txt build/coverage && exit $$status

lint: ## check the layout, comments, names and format of evloop.h
	@mkdir -p build
	@sh tests/lint.sh --self-test >build/lint.log 2>&1 || { cat build/lint.log; exit 1; }
	@sh tests/lint.sh

FORMATTED = $(wildcard evloop.h tests/*.[ch] tests/compile/*.[ch] examples/*.[ch] bench/*.[ch])
FORMATTER = $(firstword $(shell command -v clang-format-14 || command -v clang-format) clang-format-14)

format: ## format all C with clang-format 14
	@$(call need,$(FORMATTER),clang-format-14)
	$(FORMATTER) --style=file -i $(FORMATTED)

format-check: ## say which lines `make format` would change
	@$(call need,$(FORMATTER),clang-format-14)
	$(FORMATTER) --style=file --dry-run --Werror $(FORMATTED)

# ---- Examples ----

examples: ## build each example by the command in its first comment
	sh tests/examples.sh $(EXAMPLES)

# ---- Benchmarks ----

BENCH = CC='$(CC)' CFLAGS='$(CFLAGS)' LIBUV_DIR='$(LIBUV_DIR)' LIBRARIES='$(LIBRARIES)' ONLY='$(ONLY)' \
        SKIP='$(SKIP)' CASE='$(CASE)' ROUNDS='$(ROUNDS)' SCALE='$(SCALE)' FORMAT='$(FORMAT)' sh bench/run.sh

bench: ## run the benchmarks; ONLY=name,name SKIP=name CASE=text ROUNDS=n SCALE=f FORMAT=table|markdown|csv LIBRARIES='evloop libuv' LIBUV_DIR=path
	@$(BENCH)

bench-chart: ## draw bench/chart.svg out of what `make bench` has measured
	@$(call need,gnuplot,gnuplot-nox)
	@sh bench/chart.sh

bench-check: ## count instructions and compare them with bench/expected.txt; UPDATE=1 PROFILE=text
	@$(call need,valgrind,valgrind)
	@sh bench/check.sh --self-test
	@CC='$(CC)' UPDATE='$(UPDATE)' PROFILE='$(PROFILE)' sh bench/check.sh

clean: ## remove what was built
	rm -rf build
