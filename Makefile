# Targets a newcomer guesses. `make` builds; the rest is below. Needs Go 1.26 or newer; what else is missing, testing/install.sh installs.

SHELL   := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
GO      ?= go
CACHE   ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ikegod
VERSION ?= unreleased
LDFLAGS := -X main.version=$(VERSION)
FUZZTIME ?= 20s
SEEDS   ?= 1000

# Packages whose tests need a host of their own: root, namespaces, other daemons. The others run anywhere.
HOSTED  := ./testing/netns ./testing/peer ./testing/demo ./kernel/hostnet ./kernel/userspace ./kernel/xfrm
# And those that run inside a kernel of their own (testing/uml).
KERNEL  := ./testing/uml ./kernel/xfrm
PURE     = $(filter-out $(addprefix github.com/ikegod/ikegod,$(patsubst .%,%,$(HOSTED) $(KERNEL))),$(shell $(GO) list ./...))

GOLANGCI_VERSION := v2.15.0
GOLANGCI := $(CACHE)/bin/golangci-lint-$(GOLANGCI_VERSION)

.PHONY: all build deps test test-pure test-hosted test-kernel test-kernel-short kernel kernel-newer check fmt vet race fuzz lint arch ledger demo bench interop sim soak clean

all: build

build:
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/ikegod ./cmd/ikectl

deps:
	@testing/install.sh

# All tests. Without root those that need namespaces skip, loudly; with CI=true they may not.
test: deps test-pure test-hosted

test-pure:
	$(GO) test -shuffle=on $(PURE)

# One after the other, on programs built once: these tests look at times and at the state of hosts.
test-hosted: build
	TEST_BIN=$(CURDIR)/bin $(GO) test -p 1 -count=1 -timeout 20m $(HOSTED)

# On a real kernel that has ESP and ESP in TCP: built once, then a program that boots in a second.
test-kernel: deps build kernel kernel-newer
	TEST_KERNEL=1 TEST_BIN=$(CURDIR)/bin $(GO) test -v -p 1 -count=1 -timeout 180m $(KERNEL)

# What of it CI runs: some of the scenarios with another ikegod and with libreswan and strongSwan, each of which takes a minute.
test-kernel-short: deps build kernel
	TEST_KERNEL=1 TEST_BIN=$(CURDIR)/bin $(GO) test -short -p 1 -count=1 -timeout 30m $(KERNEL)

kernel:
	@testing/install.sh kernel
	@testing/uml/kernel/build

kernel-newer:
	@testing/install.sh newer
	@testing/uml/kernel/build newer

check: fmt vet arch race lint fuzz ledger
	@echo "check: PASS"

fmt:
	@test -z "$$(gofmt -l .)" || { echo "gofmt these:"; gofmt -l .; exit 1; }

vet:
	$(GO) vet ./...

race:
	$(GO) test -race -shuffle=on $(PURE)

arch:
	$(GO) test -count=1 ./testing/arch

ledger:
	@if [ -d testing/ledger ]; then $(GO) test -count=1 ./testing/ledger; fi

# Every fuzz target of the tree for FUZZTIME.
fuzz:
	@grep -rl --include='*_test.go' '^func Fuzz' . | while read -r file; do \
		dir=$$(dirname "$$file"); \
		sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$file" | while read -r target; do \
			echo "fuzz $$dir $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$dir" </dev/null; \
		done; \
	done

lint: $(GOLANGCI)
	$(GOLANGCI) run ./...

$(GOLANGCI):
	@mkdir -p $(CACHE)/bin
	GOBIN=$(CACHE)/bin $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv $(CACHE)/bin/golangci-lint $@

# Two hosts, UDP blocked between them: fallback to TCP, ping, a download, and the counts that prove it.
demo: deps build
	$(GO) build -o bin/demo ./testing/demo
	bin/demo

bench: deps build
	TEST_BIN=$(CURDIR)/bin $(GO) run ./testing/bench

# The second line is for plain ESP, which strongSwan has in the kernel alone.
interop: deps build kernel
	TEST_BIN=$(CURDIR)/bin $(GO) test -count=1 -v -timeout 20m ./testing/peer
	TEST_BIN=$(CURDIR)/bin $(GO) test -count=1 -v -timeout 30m -run 'TestStrongSwanPlainESP$$' ./testing/uml

sim:
	SEEDS=$(SEEDS) $(GO) test -count=1 -v -timeout 60m ./testing/simnet

soak: deps build
	SOAK=1 TEST_BIN=$(CURDIR)/bin $(GO) test -count=1 -v -timeout 60m -run 'Garbage|Soak' ./testing/netns

clean:
	rm -rf bin out
