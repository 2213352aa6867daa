# Every target does its own set-up on a Debian 12 with git, make and Go. What is missing is installed when run as root,
# and named in one sentence otherwise.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PREFIX ?= /usr/local
DESTDIR ?=
VERSION ?=
PROGRAM ?= bin/nigh
N ?= 20
BENCH_N ?= 5
BENCH ?=
FUZZ_TIME ?= 10m
TEST ?=
QEMU ?= arm64 armv6
ARCH ?=
FORMATS ?=

# git refuses to look at a checkout that another user owns, as containers have it, and the go command asks git.
export GIT_CONFIG_COUNT := 1
export GIT_CONFIG_KEY_0 := safe.directory
export GIT_CONFIG_VALUE_0 := $(CURDIR)

# What the tests run beside our own programs.
test_packages := git gcc libc6-dev iproute2 util-linux procps dbus dbus-bin systemd wpasupplicant avahi-daemon avahi-utils \
	busybox-static isc-dhcp-client dosfstools e2fsprogs nftables ufw groff-base tmux zbar-tools openssl lintian zsh fish zstd
# Not installed: that would take over /etc/resolv.conf.
unpacked_packages := systemd-resolved
bench_packages := iproute2 tar netcat-openbsd openssh-client openssh-server rsync syncthing magic-wormhole python3-twisted \
	python3-magic-wormhole-mailbox-server systemd
shots_packages := xvfb xterm x11-utils xdotool imagemagick fonts-dejavu-core
qemu_packages := $(addprefix ./,agent/clean agent/content agent/control agent/identity agent/message agent/policy agent/private agent/recognise \
	agent/store agent/trust agent/receive tui/wificode wpa/dbusapi)
# They start the test's program once more, which only the kernel of its own processor does.
qemu_skipped := TestSecondAgentIsRefusedWithThePID|TestRandomKills|TestForeignAgent|TestForeignUser
# Exact, like everything that is run and not built in.
govulncheck := golang.org/x/vuln/cmd/govulncheck@v1.9.0
golangci := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: help build run test unit lab lab-matrix powercuts demo bench shots fuzz lint vuln packages release reproducible qemu install uninstall lab-shell clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

# The program has no C in it and runs on any Linux of its architecture. It is kept small, for the cards of small machines:
# devices speak HTTP/1.1 to each other, so the HTTP/2 of net/http is left out; only what is hot is built with inlining and with
# slices of unknown length on the stack; and the names of generic functions do not spell out the fields of their types.
names := -d=maxshapelen=64
hot := runtime/... internal/... crypto/subtle crypto/cipher crypto/aes crypto/sha256 sync/... unicode/utf8 io bytes bufio syscall \
	crypto/internal/constanttime crypto/internal/fips140deps/... crypto/internal/fips140/alias crypto/internal/fips140/subtle \
	crypto/internal/fips140/aes/... crypto/internal/fips140/sha256 crypto/internal/fips140/sha3 crypto/internal/fips140/mlkem \
	crypto/internal/fips140/edwards25519/... encoding/binary hash/... math math/bits vendor/golang.org/x/crypto/... \
	golang.org/x/sys/... github.com/zeebo/... lukechampine.com/... nigh/agent/content nigh/agent/receive

build: ## Build bin/nigh
	@CGO_ENABLED=0 go build -trimpath -tags=nethttpomithttp2$(TAGS:%=,%) '-gcflags=all=-l -d=variablemakethreshold=0 $(names)' \
		$(hot:%='-gcflags=%=$(names)') \
		-ldflags='-s -w -funcalign=8$(if $(VERSION), -X main.version=$(VERSION))' -o $(PROGRAM) .

run: build ## Build and start the TUI here
	@bin/nigh

test: ## Run everything: checks, tests with the race detector, radios in the lab
	@.ci/packages $(test_packages)
	@.ci/unpack $(unpacked_packages)
	@go run ./lab/cmd/testall

unit: ## Run checks and the tests that need no virtual machine
	@.ci/packages $(test_packages)
	@.ci/unpack $(unpacked_packages)
	@go run ./lab/cmd/testall -steps check,unit,netns

lab: ## Run the tests with real wpa_supplicant on simulated radios (TEST=wpa: one package)
	@.ci/packages git
	@go run ./lab/cmd/testall -steps radio -test '$(TEST)'

lab-matrix: ## Run core behaviours of Wi-Fi Direct on every kind of radio and wpa_supplicant
	@.ci/packages git
	@go run ./lab/cmd/testall -steps matrix

powercuts: ## Cut the power of a machine N=20 times during transfers
	@.ci/packages git e2fsprogs
	@NIGH_LAB_VM=1 NIGH_CUTS=$(N) go test -v -timeout 0 -run '^TestPowerCuts$$' ./lab/cuts

demo: build ## Two nodes form a Wi-Fi Direct group and move files (AUTO=1: by itself)
	@go build -o bin/lab ./lab/cmd/lab
	@bin/lab demo $(if $(AUTO),-auto)

bench: build ## Measure every goal, beside nc, tar, scp, rsync, syncthing (BENCH='-only large', BENCH_N=5 rounds)
	@.ci/packages $(bench_packages)
	@go run ./lab/cmd/bench -n $(BENCH_N) $(or $(BENCH),-write)

shots: build ## Take pictures of the TUI in a real terminal, into shots/ (SHOTS='-only REGEXP -ground dark -size 80x24')
	@.ci/packages $(shots_packages)
	@go run ./lab/cmd/shots $(SHOTS)

fuzz: ## Run every fuzz target for FUZZ_TIME=10m each
	@go run ./lab/cmd/fuzz -time $(FUZZ_TIME)

lint: ## Run the linters of .golangci.yml
	@go run $(golangci) run

vuln: ## Look for known advisories that concern the calls of the program
	@out=$$(go run $(govulncheck) -tags=nethttpomithttp2 . 2>&1) && status=0 || status=$$?; case "$$out" in \
	*'fetching vulnerabilities'*) echo 'make vuln: the Go vulnerability database cannot be reached from here, so nothing was checked.' >&2; exit 1;; esac; \
	echo "$$out"; exit $$status

packages: ## Make packages for all architectures, into dist/ (ARCH=amd64,armv6 FORMATS=deb: some)
	@rm -rf dist
	@go run ./lab/cmd/release $(if $(VERSION),-version $(VERSION)) $(if $(ARCH),-arch $(ARCH)) $(if $(FORMATS),-formats $(FORMATS))

release: ## Make packages of a tagged commit, with nothing changed, into dist/
	@rm -rf dist
	@go run ./lab/cmd/release -tagged

reproducible: ## Make the packages of the last commit twice, in two folders, once with nothing cached, and compare
	@work=$$(mktemp -d); trap 'rm -rf "$$work"' EXIT; \
	git clone -q . "$$work/one/sources"; git clone -q . "$$work/another"; \
	$(MAKE) --no-print-directory -C "$$work/one/sources" packages; \
	GOCACHE="$$work/cache" $(MAKE) --no-print-directory -C "$$work/another" packages; \
	diff "$$work/one/sources/dist/SHA256SUMS" "$$work/another/dist/SHA256SUMS"; \
	cat "$$work/another/dist/SHA256SUMS"; echo 'The same in both folders.'

# Programs of other processors, one system call at a time: what asks for namespaces, netlink or processes of its own is left out.
qemu: ## Run programs and tests for arm64 and armv6 under qemu-user (QEMU=armv6: one)
	@.ci/packages qemu-user-static
	@home=$$(mktemp -d); trap 'rm -rf "$$home"' EXIT; mkdir "$$home/run"; \
	for machine in $(QEMU); do \
		case $$machine in \
		arm64) export GOARCH=arm64; run='qemu-aarch64-static -cpu cortex-a53' ;; \
		armv6) export GOARCH=arm GOARM=6; run='qemu-arm-static -cpu arm1176' ;; \
		*) echo "no machine $$machine" >&2; exit 1 ;; \
		esac; \
		echo "== $$machine"; \
		$(MAKE) --no-print-directory build PROGRAM="$$home/nigh"; \
		for call in version id doctor; do \
			env -i HOME="$$home" XDG_RUNTIME_DIR="$$home/run" PATH="$$PATH" $$run "$$home/nigh" $$call; \
		done; \
		CGO_ENABLED=0 go test -exec "$$run" -skip '$(qemu_skipped)' $(qemu_packages); \
	done

# With sudo there may be no go command: what make build has built is taken.
install: ## Install program, units and policies (DESTDIR, PREFIX)
	@[ -x bin/nigh ] || $(MAKE) --no-print-directory build
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' systemd/install install

uninstall: ## Remove what install has put in place
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' systemd/install uninstall

lab-shell: ## Open a shell in the virtual machine with the simulated radios
	@go build -o bin/lab ./lab/cmd/lab
	@bin/lab shell

clean: ## Remove what was built here (the lab's cache stays: ~/.cache/nigh-lab)
	@rm -rf bin dist shots
