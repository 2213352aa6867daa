// Release makes nigh's packages: for each architecture a .deb, an .rpm, an .apk, a package for Arch Linux, a tarball with the
// install script, and a list of what is in the program (SPDX); and SHA256SUMS of all of them. Make packages and make release call
// it, in the folder of the sources.
//
//	release [-tagged] [-version 1.2.3] [-arch amd64,arm64,armv7,armv6] [-formats deb,rpm,apk,archlinux,tarball] [-out dist]
//
// What goes into a package is what systemd/install puts in place with PREFIX=/usr, and documents. The same sources make the same
// bytes: every date is that of the commit (or SOURCE_DATE_EPOCH). Without -tagged the version of a commit that has no tag is
// one before the next patch of the last tag: v1.2.3 is followed by 1.2.4-git and the commit's date.
//
// nfpm, which writes the four formats, is built by the go command in one fixed version, and kept in the user's cache.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// release is what is made, and how.
type release struct {
	sources string // folder of the sources
	out     string // folder for what is made; made, and what it has of the same names replaced
	version version
	arches  []arch
	formats []string
	said    io.Writer // names what was made
}

// arch is a kind of machine that packages are made for.
type arch struct {
	name   string // in the names of files
	goarch string
	goarm  string
	nfpm   string // nfpm's name for it
}

// arches in the order in which they are made. Raspberry Pi OS calls armhf what Debian calls armhf, and means armv6.
var arches = []arch{
	{"amd64", "amd64", "", "amd64"},
	{"arm64", "arm64", "", "arm64"},
	{"armv7", "arm", "7", "arm7"},
	{"armv6", "arm", "6", "arm6"},
}

func main() {
	tagged := flag.Bool("tagged", false, "only of a commit with a tag, and with no change that is not committed")
	number := flag.String("version", "", "`VERSION` of the packages (default: from the tags of git)")
	only := flag.String("arch", "amd64,arm64,armv7,armv6", "comma-separated `names` of architectures")
	kinds := flag.String("formats", strings.Join(formats, ","), "comma-separated `names` of formats")
	out := flag.String("out", "dist", "`folder` for what is made")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *tagged, *number, *only, *kinds, *out); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, tagged bool, number, only, kinds, out string) error {
	r := release{sources: ".", out: out, said: os.Stdout}
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(arches, func(a arch) bool { return a.name == name })
		if i < 0 {
			return fmt.Errorf("no architecture %q", name)
		}
		r.arches = append(r.arches, arches[i])
	}
	for name := range strings.SplitSeq(kinds, ",") {
		if !slices.Contains(formats, name) {
			return fmt.Errorf("no format %q", name)
		}
		r.formats = append(r.formats, name)
	}
	var err error
	if r.version, err = versionOf(ctx, r.sources, number, tagged); err != nil {
		return err
	}
	return r.make(ctx)
}

// make builds everything.
func (r *release) make(ctx context.Context) (err error) {
	if r.sources, err = filepath.Abs(r.sources); err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "nigh-release-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	nfpm, err := installNfpm(ctx)
	if err != nil {
		return err
	}
	programs := map[string]string{} // by architecture and its version
	build := func(a arch) (string, error) {
		key := strings.TrimSuffix(a.goarch+"-"+a.goarm, "-")
		if programs[key] == "" {
			path := filepath.Join(work, "programs", key, "nigh")
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return "", err
			}
			if err := r.build(ctx, a, path); err != nil {
				return "", err
			}
			programs[key] = path
		}
		return programs[key], nil
	}
	completions, err := r.completions(ctx, work, build)
	if err != nil {
		return err
	}
	var made []string
	for _, a := range r.arches {
		program, err := build(a)
		if err != nil {
			return err
		}
		p := &packed{release: r, arch: a, nfpm: nfpm, work: filepath.Join(work, a.name), completions: completions, program: program}
		if err := os.Mkdir(p.work, 0o755); err != nil {
			return err
		}
		names, err := p.pack(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
		made = append(made, names...)
	}
	return r.sum(made)
}

// completions writes what the program says to shells into a folder. The program that runs here is asked: all say the same.
func (r *release) completions(ctx context.Context, work string, build func(arch) (string, error)) (string, error) {
	here := arch{goarch: runtime.GOARCH}
	if here.goarch == "arm" {
		here.goarm = "6"
	}
	program, err := build(here)
	if err != nil {
		return "", err
	}
	folder := filepath.Join(work, "completions")
	if err := os.Mkdir(folder, 0o755); err != nil {
		return "", err
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		text, err := output(ctx, "", nil, program, "completion", shell)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(folder, shell), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	return folder, nil
}

// build makes the program as make build does.
func (r *release) build(ctx context.Context, a arch, path string) error {
	// What git knows of the folder would be part of the program; the version says which sources these are.
	env := []string{"GOOS=linux", "GOARCH=" + a.goarch, "GOARM=" + a.goarm, "GOAMD64=v1", "GOARM64=v8.0",
		"GOFLAGS=" + strings.TrimSpace(os.Getenv("GOFLAGS")+" -buildvcs=false")}
	_, err := output(ctx, r.sources, env, "make", "--no-print-directory", "build", "PROGRAM="+path, "VERSION="+r.version.program)
	return err
}

// sum writes SHA256SUMS, as sha256sum -c reads it, and says what there is.
func (r *release) sum(names []string) error {
	slices.Sort(names)
	var sums strings.Builder
	for _, name := range names {
		sum, size, err := hash(filepath.Join(r.out, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%s  %s\n", sum, name)
		fmt.Fprintf(r.said, "%10d  %s\n", size, filepath.Join(r.out, name))
	}
	if err := os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), []byte(sums.String()), 0o644); err != nil {
		return err
	}
	_, err := fmt.Fprintf(r.said, "nigh %s, as of %s: %d files, and their sums in %s\n", r.version.program,
		r.version.date.Format(time.DateTime), len(names), filepath.Join(r.out, "SHA256SUMS"))
	return err
}

func hash(path string) (sum string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	size, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), size, err
}

// output runs a program in a folder with more in its environment, and returns what it printed.
func output(ctx context.Context, folder string, env []string, name string, args ...string) (string, error) {
	var failed strings.Builder
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env, cmd.Stderr = folder, append(os.Environ(), env...), &failed
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), err, strings.TrimSpace(failed.String()+string(out)))
	}
	return string(out), nil
}
