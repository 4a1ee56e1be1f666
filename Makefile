# Everything that a person or a robot does with this repository. `make help` lists it.

CARGO  ?= cargo
# One run of clippy each: every tier compiles without a warning.
TIERS  := minimal balanced enterprise cluster
# The tier that holds all others.
WHOLE  := cluster
# What `make size`, `make dist` and `make measure` build; cross/README.md lists the targets.
TARGET ?= x86_64-unknown-linux-musl

SHIPPED = target/cross/$(TARGET)/$(TARGET)/ship/couplet

.PHONY: help run test lint deny unit smoke deploy published interop plays nightly ship size measure bench dist sbom reproducible \
    package image deb-test image-test device-test source

help:
	@sed -n 's/^#: //p' Makefile

#: make run      build, then serve localhost; says how to add users and connect
run:
	@$(CARGO) build --quiet --bin couplet
	@exec target/debug/couplet run

#: make test     all tests: lints, cargo test, and other people's clients against the real binary
test: lint deny unit smoke deploy published

lint:
	@if $(CARGO) clippy --version >/dev/null 2>&1; then \
	    set -e; for tier in $(TIERS); do \
	        echo "clippy, tier $$tier"; \
	        $(CARGO) clippy --quiet --all-targets --no-default-features --features $$tier -- -D warnings; \
	    done; \
	else \
	    echo "clippy: skipped: not installed; try \`rustup component add clippy\`"; \
	fi

# Licences, sources and duplicates are kept by `cargo test`, too: tests/supply.rs.
deny:
	@if ! $(CARGO) deny --version >/dev/null 2>&1; then \
	    echo "cargo-deny: skipped, and with it known holes: not installed; try \`cargo install --locked cargo-deny\`"; \
	else \
	    set -e; $(CARGO) deny check licenses sources bans; \
	    if $(CARGO) deny fetch db; then \
	        $(CARGO) deny check advisories; \
	    else \
	        echo "cargo-deny: known holes: skipped: their database cannot be had; it is on github.com"; \
	    fi; \
	fi

# All that there is, then what the smallest tier does without the others. The third run shows that the simulation and
# the fuzz targets see each fault that is planted in the server.
unit:
	$(CARGO) test --features $(WHOLE)
	$(CARGO) test --lib --bins --test scenarios --test config
	$(CARGO) test --features $(WHOLE),planted-faults --test sim --test fuzz every_planted_fault_is_noticed -- --nocapture
	$(CARGO) test --features $(WHOLE),planted-faults --test shell bugs

smoke:
	$(CARGO) build --quiet --bin couplet --features $(WHOLE)
	tests/interop/run --binary target/debug/couplet

# Scripts, packages and the unit of what is under cross/deploy, and machines that lack something. APK and OPKG name
# OpenWrt's own tools, if they are here.
deploy:
	$(CARGO) build --quiet --bin couplet --features $(WHOLE)
	tests/deploy/run --binary target/debug/couplet

published:
	@cross/published

#: make interop  the clients again and more of them, also in tmux, federation with Prosody and ejabberd, certificates by
#:               pebble, and `make plays`
interop: plays
	$(CARGO) build --quiet --bin couplet --features $(WHOLE)
	tests/interop/run --binary target/debug/couplet --strict --clients --federation --acme --moving

#: make plays    the plays against Debian's Prosody: alike, or different as a play explains; SCENARIO=20 some of them
plays:
	@tests/interop/plays.py

# As much as a night gives: CUTS and KILLS of the published binary, or of the one in BINARY, floods of so many seconds
# each, and SEEDS simulated runs.
# Power cuts and full disks need root and /dev/fuse; without them they say that they were skipped.
CUTS   ?= 200
KILLS  ?= 200
FLOODS ?= 5
SEEDS  ?= 2000
# How long each target is fuzzed.
FUZZ_SECONDS ?= 60
BINARY ?= $(abspath $(SHIPPED))

# What is built, run and built again at night.
DEVICES ?= $(shell awk '/^[a-z]/ { print $$1 }' cross/size-budget)

#: make nightly  what is slow: power cuts, kills, full and failing disks, floods, simulations, all targets with a second
#:               build of each, packages and the image, instructions, fuzzing
nightly:
	@if test "$(BINARY)" = "$(abspath $(SHIPPED))"; then cross/build $(TARGET); fi
	COUPLET_BINARY=$(BINARY) COUPLET_CUTS=$(CUTS) $(CARGO) test --features $(WHOLE) --test power -- --nocapture --test-threads=1
	COUPLET_CUTS=$(CUTS) $(CARGO) test --features $(WHOLE),planted-faults --test power -- --nocapture
	COUPLET_BINARY=$(BINARY) COUPLET_KILLS=$(KILLS) $(CARGO) test --features $(WHOLE) --test kill9 -- --nocapture
	COUPLET_BINARY=$(BINARY) COUPLET_FLOODS=$(FLOODS) $(CARGO) test --features $(WHOLE) --test attack floods -- --nocapture
	COUPLET_SIM_SEEDS=$(SEEDS) $(CARGO) test --features $(WHOLE) --test sim every_rule_holds
	set -e; for target in $(DEVICES); do $(MAKE) size device-test reproducible TARGET=$$target; done
	$(MAKE) deb-test image-test
	$(MAKE) instructions
	$(MAKE) fuzz

#: make fuzz     hostile bytes for all that reads some, FUZZ_SECONDS each (60); first, that each planted fault is found
.PHONY: fuzz
fuzz:
	tests/fuzz/run --planted --seconds $(FUZZ_SECONDS)
	tests/fuzz/run --seconds $(FUZZ_SECONDS)

#: make ship     the static binary that is published, for TARGET (default: x86_64 musl)
ship:
	@cross/build $(TARGET)

#: make size     its size in bytes; fails above the budget of cross/size-budget
size: ship
	@cross/size $(TARGET) $(SHIPPED)

#: make order    where functions stand in the binary, learned anew; when much of the code has moved (a quarter of an hour, valgrind)
.PHONY: order
order:
	CARGO_PROFILE_SHIP_STRIP=none cross/build x86_64-unknown-linux-musl --features balanced
	cross/learn target/cross/x86_64-unknown-linux-musl/x86_64-unknown-linux-musl/ship/couplet

#: make measure  the figures of the README: size, memory, start-up
measure: ship
	tests/interop/run --measure --binary $(SHIPPED)

#: make bench    figures beside those of Prosody and ejabberd, into target/bench/; BENCH_ONLY=chat,rooms, BENCH=full
bench: ship
	BENCH_COUPLET=$(SHIPPED) $(CARGO) bench --quiet --bench load

#: make instructions  instructions and copied bytes of each message, by valgrind; fails 3 % above their budgets
.PHONY: instructions
instructions:
	$(CARGO) bench --quiet --bench instructions

#: make archive  processor time of pages of small and large archives, and what a commit of them costs
.PHONY: archive
archive:
	$(CARGO) bench --quiet --features balanced --bench archive

#: make dist     an archive of it in target/dist/
dist: ship
	@cross/pack $(TARGET) $(SHIPPED)

#: make sbom     what it is made of, as CycloneDX, in target/dist/; `make dist` writes it, too
sbom: ship
	@cross/sbom $(TARGET) $(SHIPPED)

#: make reproducible    builds it a second time, elsewhere, and compares
reproducible: ship
	cross/reproducible $(TARGET) $(SHIPPED)

#: make package  packages of it in target/dist/: KIND=deb, ipk (OpenWrt) or apk (OpenWrt from 25.12 on)
KIND ?= deb
package: ship
	@$(CARGO) build --quiet --bin couplet
	@cross/package $(KIND) $(TARGET) $(SHIPPED)

#: make image    an image for containers; PLATFORMS="amd64=FILE arm64=FILE" of several binaries
PLATFORMS ?= amd64=$(SHIPPED)
image: $(if $(filter amd64=$(SHIPPED),$(PLATFORMS)),ship)
	@cross/image couplet $(PLATFORMS)

#: make deb-test, make image-test, make device-test    each of these tried: in a tree of Debian, in podman, under qemu
deb-test: ship
	@$(CARGO) build --quiet --bin couplet
	COUPLET=$(abspath target/debug/couplet) tests/deploy/run --strict --binary $(SHIPPED) deb

image-test: ship
	tests/deploy/run --strict --binary $(SHIPPED) $(PLATFORMS:%=--platform %) image

device-test: ship
	tests/deploy/run --strict --binary $(SHIPPED) --target $(TARGET) device

#: make source   the archive that OpenWrt's build system takes (cross/deploy/openwrt/Makefile)
source:
	@mkdir -p target/dist
	@version=$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1); \
	git archive --format=tar.gz --prefix=couplet-$$version/ -o target/dist/couplet-$$version.tar.gz HEAD; \
	echo target/dist/couplet-$$version.tar.gz
