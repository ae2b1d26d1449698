# The commands of everyday: `make help`. The work is done by scripts/, each of which can be run by itself and again.
.DEFAULT_GOAL := help
.PHONY: help run demo test week fuzz bench soak image build clean

# Spindown opens port 80 on its bridge and sets firewall rules, which is root's.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env --)

help: ## Show this
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' Makefile

run: ## Prepare this machine, build, and run Spindown in the foreground
	@scripts/install
	@scripts/engine
	@scripts/image ssh
	@echo "cargo: building spindown"
	@cargo build --release --locked --bin spindown
	@exec $(SUDO) target/release/spindown serve --hints

demo: ## See in a minute what it does: a sandbox freezes, goes on at a key, sleeps, and wakes; nothing of it stays
	@scripts/install
	@scripts/engine
	@scripts/image ssh
	@echo "cargo: building spindown"
	@cargo build --release --locked --bin spindown
	@exec $(SUDO) scripts/demo

test: ## Prepare this machine and run every check and test
	@scripts/install --test
	@scripts/engine
	@scripts/image
	@scripts/test

bench: ## Measure against the engine itself; ONLY=create measures that alone (docs/performance.md)
	@scripts/install --test
	@scripts/engine
	@scripts/image
	@scripts/bench $(ONLY)

soak: ## Use a server in every way for an hour (SPINDOWN_SOAK=20m), and see that nothing grows
	@scripts/install --test
	@scripts/engine
	@scripts/image
	@scripts/soak

week: ## Prove the promises over a simulated week with 10,000 containers; SPINDOWN_SEED=… plays one again
	@cargo nextest run --release --locked --run-ignored only --no-capture a_week_of_ten_thousand

fuzz: ## Run each fuzzer for ten minutes (TIME=seconds)
	@scripts/fuzz

image: ## Build the sandbox images whose sources have changed
	@scripts/engine
	@scripts/image

build: ## Build Spindown in release
	cargo build --release --locked

clean: ## Remove what was built (sandboxes, images and data stay)
	cargo clean
