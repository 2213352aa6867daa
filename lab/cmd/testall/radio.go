package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	// radioFiles are the tests that the lab builds, with the tag radio, and runs in its guests.
	radioFiles = "*_radio_test.go"
	// guests share the tests, one for each of the two processors that such a machine has: with a third, frames of the
	// simulated radios come too late for the supplicant's own limits, and groups are not formed.
	guests = 2
	// behaviourPackage has a test for each behaviour of Wi-Fi Direct.
	behaviourPackage = "nigh/wpa"
	// packageTests install the .deb in a guest. It is made once, before any guest, in packageFolder.
	packageTests  = "nigh/systemd"
	packageFolder = "bin/packages"
)

// vmPackages have tests that boot virtual machines themselves, when they are told to: too slow to run beside others.
var vmPackages = []string{"nigh/lab/vm", "nigh/lab/cmd/lab", "nigh/lab/cuts"}

// taggedPackage is a package with test files that need a tag.
type taggedPackage struct{ ImportPath, Dir string }

// taggedPackages finds the packages that have test files of a pattern, which need a tag; only, if not empty, is the one wanted.
func taggedPackages(ctx context.Context, tag, pattern, only string) ([]taggedPackage, error) {
	out, err := output(ctx, "go", "list", "-tags="+tag, "-json=ImportPath,Dir", "./...")
	if err != nil {
		return nil, err
	}
	var found []taggedPackage
	for d := json.NewDecoder(strings.NewReader(out)); ; {
		var p taggedPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		files, err := filepath.Glob(filepath.Join(p.Dir, pattern))
		if err != nil {
			return nil, err
		}
		if len(files) > 0 && (only == "" || p.ImportPath == "nigh/"+only) {
			found = append(found, p)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no package nigh/%s has tests in files %s", only, pattern)
	}
	return found, nil
}

// radio runs the radio tests in the lab's guests, and unless one package is wanted, the lab's tests of itself.
func radio(ctx context.Context, all *tally) error {
	tagged, err := taggedPackages(ctx, "radio", radioFiles, all.only)
	if err != nil {
		return err
	}
	var packages []string
	for _, p := range tagged {
		packages = append(packages, p.ImportPath)
	}
	lab, err := buildLab(ctx)
	if err != nil {
		return err
	}
	if slices.Contains(packages, packageTests) {
		if err := buildPackage(ctx); err != nil {
			return err
		}
	}
	var failed []error
	if all.only == "" {
		failed = append(failed, stream(ctx, machineTests(ctx, vmPackages...), all.event))
	}
	all.behaviours = &behaviours{out: all.out, cells: map[string]map[string]outcome{}}
	all.slow = nil
	failed = append(failed, labTests(ctx, all, lab, packages...))
	all.slowest()
	failed = append(failed, secondTry(ctx, all, func(pkg, run string) *exec.Cmd {
		if slices.Contains(vmPackages, pkg) {
			return machineTests(ctx, "-count=1", "-run", run, pkg)
		}
		return exec.CommandContext(ctx, lab, "test", "-json", "-timeout", "0", "-run", run, pkg)
	}))
	for _, p := range packages {
		if p == behaviourPackage {
			all.behaviours.summary(all)
		}
	}
	all.behaviours = nil
	return errors.Join(failed...)
}

// machineTests runs tests that boot virtual machines themselves.
func machineTests(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-race", "-json", "-p=2", "-timeout=30m"}, args...)...)
	cmd.Env = append(os.Environ(), "NIGH_LAB_VM=1")
	return cmd
}

// buildLab builds the lab's program and the one that its guests take: they have no compiler, so it is static.
func buildLab(ctx context.Context) (path string, err error) {
	// Not go run: it has one status for all that can go wrong.
	lab, err := filepath.Abs("bin/lab")
	if err != nil {
		return "", err
	}
	for binary, source := range map[string]string{lab: "./lab/cmd/lab", filepath.Join(filepath.Dir(lab), "nigh"): "."} {
		if _, err := output(ctx, "env", "CGO_ENABLED=0", "go", "build", "-o", binary, source); err != nil {
			return "", err
		}
	}
	return lab, nil
}

// buildPackage makes the package that is installed in guests, and leaves no other in its folder.
func buildPackage(ctx context.Context) error {
	if err := os.RemoveAll(packageFolder); err != nil {
		return err
	}
	_, err := output(ctx, "go", "run", "./lab/cmd/release", "-arch", "amd64", "-formats", "deb", "-out", packageFolder)
	return err
}

// labTests runs the lab's command test.
func labTests(ctx context.Context, all *tally, lab string, args ...string) error {
	before := all.passed + all.failed + all.skipped
	tests := exec.CommandContext(ctx, lab, append([]string{"test", "-json", "-guests", strconv.Itoa(guests), "-timeout", "0"}, args...)...)
	err := stream(ctx, tests, all.event)
	if err == nil && all.passed+all.failed+all.skipped == before {
		err = errors.New("the lab ran no test")
	}
	return err
}
