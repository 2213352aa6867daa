package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	// radioFiles are the tests that the lab builds, with the tag radio, and runs in its guest.
	radioFiles = "*_radio_test.go"
	// systemdMark, on a line of its own in one of them, asks for a guest with systemd as its first process.
	systemdMark = "//lab:systemd"
)

// vmPackages have tests that boot virtual machines themselves, when they are told to: too slow to run beside others.
var vmPackages = []string{"nigh/lab/vm", "nigh/lab/cmd/lab"}

// radioPackage is a package with tests for the lab's guest.
type radioPackage struct {
	importPath string
	systemd    bool
}

// radioPackages finds them.
func radioPackages(ctx context.Context) ([]radioPackage, error) {
	out, err := output(ctx, "go", "list", "-tags=radio", "-json=ImportPath,Dir", "./...")
	if err != nil {
		return nil, err
	}
	var found []radioPackage
	for d := json.NewDecoder(strings.NewReader(out)); ; {
		var p struct{ ImportPath, Dir string }
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return nil, err
		}
		files, err := filepath.Glob(filepath.Join(p.Dir, radioFiles))
		if err != nil {
			return nil, err
		}
		if len(files) == 0 {
			continue
		}
		systemd := false
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			systemd = systemd || bytes.Contains(text, []byte("\n"+systemdMark+"\n"))
		}
		found = append(found, radioPackage{p.ImportPath, systemd})
	}
}

// radio runs the radio tests of each package in a guest of its own: what one package leaves behind is not the next one's
// trouble, and a guest boots in seconds.
func radio(ctx context.Context, all *tally) error {
	packages, err := radioPackages(ctx)
	if err != nil {
		return err
	}
	if len(packages) == 0 {
		return errors.New("no package has tests for the lab: " + radioFiles)
	}
	// Not go run: it has one status for all that can go wrong. The guest has no compiler and takes bin/nigh, so that is static.
	lab, err := filepath.Abs("bin/lab")
	if err != nil {
		return err
	}
	for binary, source := range map[string]string{lab: "./lab/cmd/lab", filepath.Join(filepath.Dir(lab), "nigh"): "."} {
		if _, err := output(ctx, "env", "CGO_ENABLED=0", "go", "build", "-o", binary, source); err != nil {
			return err
		}
	}
	var failed []error
	machines := exec.CommandContext(ctx, "go", append([]string{"test", "-race", "-json", "-p=1", "-timeout=30m"}, vmPackages...)...)
	machines.Env = append(os.Environ(), "NIGH_LAB_VM=1")
	if err := stream(ctx, machines, all.event); err != nil {
		failed = append(failed, err)
	}
	for _, p := range packages {
		if err := guestTests(ctx, all, lab, p); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", p.importPath, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failed...)
}

// guestTests runs one package's radio tests. What the guest prints is shown as it comes, and read by test2json.
func guestTests(ctx context.Context, all *tally, lab string, p radioPackage) error {
	args := []string{"test"}
	if p.systemd {
		args = append(args, "-systemd")
	}
	tests := exec.CommandContext(ctx, lab, append(args, p.importPath)...)
	convert := exec.Command("go", "tool", "test2json", "-t", "-p", p.importPath)
	text, err := convert.StdinPipe()
	if err != nil {
		return err
	}
	var events bytes.Buffer
	convert.Stdout, convert.Stderr = &events, os.Stdout
	if err := convert.Start(); err != nil {
		return err
	}
	err = stream(ctx, tests, func(line []byte) {
		fmt.Printf("%s", line)
		// The guest's terminal ends lines with a carriage return, too.
		fmt.Fprintf(text, "%s\n", bytes.TrimRight(line, "\r\n"))
	})
	text.Close()
	if cerr := convert.Wait(); err == nil {
		err = cerr
	}
	before := all.passed + all.failed + all.skipped
	quiet := *all
	quiet.out = io.Discard // it was shown already
	for line := range bytes.Lines(events.Bytes()) {
		quiet.event(line)
	}
	quiet.out = all.out
	*all = quiet
	if err == nil && all.passed+all.failed+all.skipped == before {
		err = errors.New("the lab ran no test")
	}
	return err
}
