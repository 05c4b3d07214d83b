# Vitro. `make help` lists the targets; everything else is Go's own tools.
GO      ?= go
PREFIX  ?= /usr/local
DESTDIR ?=
ARCH    := $(shell $(GO) env GOARCH)
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
# Both start at their own entry point (internal/boot), with their heap where one huge page holds it.
ENTRY   := -E vitro/internal/boot.Entry
HELLO   := internal/hello/image/hello-$(ARCH).tar
export CGO_ENABLED := 0

.DEFAULT_GOAL := build
.PHONY: run build test test-v2 tour tour-v2 bench lint install clean help

## run: build, then run the embedded image: a container that reports what it is
run: build
	bin/vitro run --rm hello

## build: bin/vitro (engine) and bin/vitrun (OCI runtime), static
build: $(HELLO)
	GOEXPERIMENT=norandomizedheapbase64 $(GO) build -trimpath -ldflags '$(LDFLAGS) $(ENTRY)' -o bin/ ./cmd/vitro ./cmd/vitrun

# The generator runs here, whatever the architecture of the image.
$(HELLO): $(filter-out %_test.go,$(wildcard cmd/hello/*.go internal/hello/gen/*.go)) go.mod
	GOOS= GOARCH= $(GO) run ./internal/hello/gen -arch $(ARCH)

## test: install what the tests need (Debian, as root), then run all of them and look for what they left behind
test: build lint
	test/deps.sh
	$(GO) run ./internal/testenv/leakcheck $(GO) test -count=1 -timeout 20m $(TESTFLAGS) ./...
	test/vm/tests quick

## test-v2: the tests of runtime and cgroups, and the tour, on a virtual machine with cgroup v2 alone (VM_MACHINE=uml or qemu; test/vm/run --help)
test-v2: build
	test/vm/tests

## tour: run every command of docs/tour.md and compare what it prints (TOURFLAGS='-v -step 3', -update writes the file)
tour: build
	test/deps.sh
	$(GO) run ./test/tour $(TOURFLAGS)

## tour-v2: the same on a machine with cgroup v2 alone and Linux 6.1 (QEMU, see test/vm/run; about five minutes)
tour-v2: build
	test/deps.sh
	$(GO) build -o bin/vm/tour ./test/tour
	test/vm/run -m qemu -t 1800 --memory 2G bin/vm/tour $(TOURFLAGS)

## bench: compare with runc, crun, docker, podman and the kernel floor (BENCHFLAGS='-n 50 start rss')
bench: build
	$(GO) run ./bench $(BENCHFLAGS)

## lint: go vet, staticcheck, gofumpt
lint:
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	@files=$$($(GO) tool gofumpt -l .); test -z "$$files" || { echo "gofumpt -w:" $$files; exit 1; }

## install: copy both programs to DESTDIR/PREFIX/bin (PREFIX=/usr/local)
install: build
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 0755 bin/vitro bin/vitrun $(DESTDIR)$(PREFIX)/bin

## clean: remove what was built
clean:
	rm -rf bin internal/hello/image/*.tar

## help: list the targets
help:
	@sed -n 's/^## \([a-z0-9-]*\): /\1\t/p' $(MAKEFILE_LIST) | expand -t 10
