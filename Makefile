# Works from a clean clone on Debian or Ubuntu with python3 and make; `make help` lists what there is.
# Stamp files in .venv make repeated runs quick; `make clean` starts over.

SHELL := /bin/bash
# Where Python keeps no compiled code, each worker compiles all tests anew.
unexport PYTHONDONTWRITEBYTECODE
VENV := .venv
PYTHON := $(VENV)/bin/python
SECONDS_PER_TARGET ?= 10

# The programs that the interoperability tests publish and read with.
SYSTEM_PACKAGES := ffmpeg tshark gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good \
	gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav gstreamer1.0-rtsp gstreamer1.0-nice \
	gir1.2-gst-plugins-bad-1.0 \
	vlc-bin vlc-plugin-base iproute2 nginx-light libnginx-mod-rtmp chromium firefox-esr \
	gir1.2-gst-rtsp-server-1.0 python3-gi srt-tools prometheus zsh fish coturn argon2 haproxy \
	gstreamer1.0-plugins-base-apps $(if $(shell command -v go),,golang-go)

.DEFAULT_GOAL := help
.PHONY: help run check test lint format documents bench fuzz executable deb home-assistant site docker-lint tools clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.installed ## install into .venv and start the server with a demo stream (ARGS="my.yml" for your own)
	@$(VENV)/bin/polycast $(or $(ARGS),--demo)

check: lint ## style, types, the tests of the inner layers, and whether anything was forgotten, in about a minute
	@$(PYTHON) -m tests.run --check

# Most tests wait for other programs, so that many of them do not disturb each other on two processors. tests/run.py says
# what runs beside what, tests/support/schedule.py on which worker and in which order. What fails runs once more alone: if
# it passes then, the machine was too slow for so much at once.
WORKERS ?= 6

test: $(VENV)/.test $(VENV)/.system-packages ## run all tests (PYTEST_ARGS="-k rtsp" for some)
	@$(PYTHON) -m $(if $(PYTEST_ARGS),pytest $(PYTEST_ARGS),tests.run --workers $(WORKERS))

lint: $(VENV)/.test ## check style and types
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/mypy examples/*.py

format: $(VENV)/.test ## bring the code into shape
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

documents: $(VENV)/.test ## make the documents that are generated from the code
	@$(PYTHON) -m polycast.config.document docs
	@$(PYTHON) -m polycast.config.migration_document docs
	@$(PYTHON) -m polycast.api.document docs
	@$(PYTHON) -m polycast.app.openapi_document docs
	@$(PYTHON) -m polycast.app.codec_document docs
	@$(PYTHON) -m polycast.app.metric_document docs

bench: $(VENV)/.test ## measure, print a table, write bench/results (ARGS="--help" for what can be measured; MEDIAMTX=, RTSP_SIMPLE_SERVER= for executables to compare with)
	@$(PYTHON) -m bench $(ARGS)
	@$(if $(ARGS),true,$(PYTHON) -m bench.library)
	@$(if $(ARGS),true,$(PYTHON) -m bench.cameras)
	@$(if $(ARGS),true,$(PYTHON) -m bench.browser_delay)

fuzz: $(VENV)/.test ## fuzz every parser (SECONDS_PER_TARGET=60 for longer)
	@$(PYTHON) fuzz/run.py --seconds $(SECONDS_PER_TARGET) $(ARGS)

executable: $(VENV)/.executable ## build dist/polycast, a single executable without a Python beside it, and try it
	@$(PYTHON) -m PyInstaller --noconfirm --log-level WARN --distpath dist --workpath build packaging/polycast.spec
	@POLYCAST_EXECUTABLE=dist/polycast $(PYTHON) -m pytest -q tests/packaging/test_executable.py
	@ls -l dist/polycast

deb: $(VENV)/.test $(VENV)/.binutils ## build dist/polycast_*.deb for this Debian or Ubuntu, and install it into a folder to try it
	@rm -f dist/polycast_*.deb
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(PYTHON) packaging/deb.py --python /usr/bin/python3
	@POLYCAST_DEB="$$(ls dist/polycast_*.deb)" $(PYTHON) -m pytest -q tests/packaging/test_deb.py
	@ls -l dist/polycast_*.deb

home-assistant: $(VENV)/.test ## write dist/home-assistant/polycast, an add-on
	@$(PYTHON) packaging/home_assistant.py

site: $(VENV)/.site $(VENV)/.system-packages ## build the documentation as a site, dist/site, with every broken link as an error
	@NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --quiet
	@POLYCAST_SITE=dist/site $(PYTHON) -m pytest -q tests/packaging/test_site.py
	@echo "dist/site/index.html; to look at it with search: $(PYTHON) -m http.server --directory dist/site"

$(VENV)/.site: pyproject.toml $(VENV)/.test
	$(PYTHON) -m pip install -q --no-compile --group site
	@touch $@

docker-lint: $(VENV)/.test ## check the Dockerfiles and the compose example, and run the steps of the image here
	$(call install_packages,python3 python3-pip binutils busybox ca-certificates media-types netbase tzdata,exit 0)
	@if command -v hadolint >/dev/null; then hadolint Dockerfile docs/docker/ffmpeg.Dockerfile; fi
	@POLYCAST_DOCKER_STEPS=yes $(PYTHON) -m pytest -q tests/packaging/test_docker.py

tools: $(addprefix $(VENV)/.,test system-packages executable binutils site) ## install what all the other targets need

clean: ## remove the virtual environment and all caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Install those of the Debian packages $(1) that are missing; $(2) is what to do when that is not possible here.
define install_packages
	@missing=""; \
	for package in $(1); do \
		dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
		if ! command -v apt-get >/dev/null; then root=no; \
		elif [ "$$(id -u)" = 0 ]; then root=""; \
		elif sudo -n true 2>/dev/null; then root="sudo -n"; \
		else root=no; fi; \
		if [ "$$root" = no ]; then \
			echo "These packages are missing and cannot be installed from here:$$missing" >&2; $(2); \
		else \
			echo "Installing$$missing"; \
			$$root apt-get update -qq && \
			$$root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
				apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
		fi; \
	fi
endef

$(VENV)/bin/python:
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed" >&2; exit 1; }
	@python3 -c 'import ensurepip, venv' 2>/dev/null || $(MAKE) --no-print-directory install-venv
	python3 -m venv $(VENV)
	@$(PYTHON) -m pip install -q --upgrade 'pip>=25.1'

.PHONY: install-venv
install-venv:
	$(call install_packages,python3-venv,exit 1)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(PYTHON) -m pip install -q -e '.[media,tls,webrtc,rich,s3]'
	@touch $@

# What nobody imports needs no compiling: most of what these install.
$(VENV)/.test: pyproject.toml $(VENV)/.installed
	$(PYTHON) -m pip install -q --no-compile --group test --group lint
	@if ! command -v nats-server >/dev/null && command -v go >/dev/null; then \
		GOBIN=$(abspath $(VENV))/bin go install github.com/nats-io/nats-server/v2@v2.15.2 || true; fi
	@touch $@

# The executable carries Python's shared library, which Debian has in a package of its own. Prints the package if missing.
define missing_python_library
import ctypes, os, sys, sysconfig
name = sysconfig.get_config_var("INSTSONAME")
for candidate in (os.path.join(sysconfig.get_config_var("LIBDIR"), name), name):
    try:
        ctypes.CDLL(candidate)
        break
    except OSError:
        pass
else:
    print("libpython%d.%d" % sys.version_info[:2])
endef
export missing_python_library

$(VENV)/.executable: $(VENV)/.test
	$(call install_packages,$(shell $(PYTHON) -c "$$missing_python_library"),exit 1)
	$(PYTHON) -m pip install -q 'pyinstaller>=6.10'
	@touch $@

# The package is smaller where there is a program that strips libraries.
$(VENV)/.binutils: | $(VENV)/bin/python
	$(call install_packages,binutils,exit 0)
	@touch $@

# Without these programs the interoperability tests are skipped.
$(VENV)/.system-packages: Makefile | $(VENV)/bin/python
	$(call install_packages,$(SYSTEM_PACKAGES),exit 0)
	@touch $@
