# The commands of everyday: `make help`. The work is done by scripts/, each of which can be run by itself and again.
.DEFAULT_GOAL := help
.PHONY: help run test week image build clean

# Spindown opens port 80 on its bridge and sets firewall rules, which is root's.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env --)

help: ## Show this
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' Makefile

run: ## Prepare this machine, build, and run Spindown in the foreground
	@scripts/install
	@scripts/engine
	@scripts/image
	@echo "cargo: building spindown"
	@cargo build --release --locked --bin spindown
	@exec $(SUDO) target/release/spindown serve --hints

test: ## Prepare this machine and run every check and test
	@scripts/install --test
	@scripts/engine
	@scripts/image
	@scripts/test

week: ## Prove the promises over a simulated week with 10,000 containers; takes long, SPINDOWN_SEED=… plays one again
	@cargo nextest run --locked --run-ignored only --no-capture a_week_of_ten_thousand

image: ## Build the sandbox images whose sources have changed
	@scripts/engine
	@scripts/image

build: ## Build Spindown in release
	cargo build --release --locked

clean: ## Remove what was built (sandboxes, images and data stay)
	cargo clean
