# The targets of the project. Each calls one script, which says what it installs before it does.

.PHONY: demo test check build test-guests test-peers bench chaos fuzz openapi clean

demo: ## Install what is missing, build, and run the loop once (DATA=dir takes the source from recorded engines)
	scripts/demo.sh "$(DATA)"

test: ## Install what the tests need, check, and run all of them
	scripts/test.sh

check: ## Format, lints, docs, licences, spelling, generated files; no tests
	scripts/check.sh

build: ## The release binary with its dashboard
	scripts/build-web.sh
	cargo build --release --locked --bin forewright

test-guests: ## Only plugins in every language, from `plugin new` to their tests
	scripts/test.sh guests

test-peers: ## Only the tests that need other programs
	scripts/test.sh peers

bench: ## Measure an AREA side by side with its peers
	scripts/bench.sh "$(AREA)"

chaos: ## The long form of the fault tests
	scripts/test.sh chaos

fuzz: ## What strangers send, for ten minutes each (never in CI)
	scripts/fuzz.sh

openapi: ## Write openapi/v1.json from the routes
	cargo run --quiet --bin forewright -- openapi > openapi/v1.json.new
	mv openapi/v1.json.new openapi/v1.json

clean:
	cargo clean
	rm -rf web/dist web/node_modules .tools demo-out bench-out
