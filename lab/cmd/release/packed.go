package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"nigh/systemd"
)

// packed is what is made for one architecture.
type packed struct {
	release     *release
	arch        arch
	nfpm        string // program
	work        string // a folder of its own
	completions string // folder
	program     string
}

// stage is the folder that stands for /, with all files of packages.
func (p *packed) stage() string { return filepath.Join(p.work, "stage") }

// pack makes the packages, the tarball and the list, and returns the names of their files.
func (p *packed) pack(ctx context.Context) ([]string, error) {
	info, err := buildinfo.ReadFile(p.program)
	if err != nil {
		return nil, err
	}
	modules, err := modulesOf(ctx, p.release.sources, info)
	if err != nil {
		return nil, err
	}
	list, err := p.sbom(info, modules)
	if err != nil {
		return nil, err
	}
	licences := []byte(licenceTexts(modules))
	if err := p.fill(ctx, list, licences); err != nil {
		return nil, err
	}
	stem := fmt.Sprintf("nigh-%s-%s", p.release.version.number, p.arch.name)
	var names []string
	for _, format := range p.release.formats {
		name := stem + extensions[format]
		if format == tarball {
			err = p.writeTarball(stem, name, list, licences)
		} else {
			err = p.writePackage(ctx, format, name)
		}
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	names = append(names, stem+".spdx.json")
	return names, os.WriteFile(filepath.Join(p.release.out, stem+".spdx.json"), list, 0o644)
}

// fill lays the files of packages out in the stage: what the install script does, and documents.
func (p *packed) fill(ctx context.Context, list, licences []byte) error {
	recipe := filepath.Join(p.release.sources, "systemd", "install")
	env := []string{"DESTDIR=" + p.stage(), "PREFIX=/usr", "BINARY=" + p.program, "COMPLETIONS=" + p.completions}
	if _, err := output(ctx, p.work, env, recipe, "install"); err != nil {
		return err
	}
	manual := filepath.Join(p.stage(), "usr/share/man/man1/nigh.1")
	if err := compress(manual, manual+".gz"); err != nil {
		return err
	}
	documents := filepath.Join(p.stage(), "usr/share/doc/nigh")
	if err := os.MkdirAll(documents, 0o755); err != nil {
		return err
	}
	from := func(name string) string { return filepath.Join(p.release.sources, name) }
	licence, err := os.ReadFile(from("LICENSE"))
	if err != nil {
		return err
	}
	read, err := os.ReadFile(from("README.md"))
	if err != nil {
		return err
	}
	return errors.Join(
		compress(from("CHANGELOG.md"), filepath.Join(documents, "changelog.gz")),
		os.Remove(manual),
		os.WriteFile(filepath.Join(documents, "README.md"), read, 0o644),
		os.WriteFile(filepath.Join(documents, "copyright"), []byte(copyright(string(licence))), 0o644),
		os.WriteFile(filepath.Join(documents, "licences.txt"), licences, 0o644),
		os.WriteFile(filepath.Join(documents, "nigh.spdx.json"), list, 0o644),
	)
}

// copyright is Debian's file of that name (https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/).
func copyright(licence string) string {
	owner := ""
	var text strings.Builder
	for line := range strings.Lines(licence) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "Copyright (c) "); ok {
			owner = rest
		}
		if line == "" {
			line = "."
		}
		text.WriteString(" " + line + "\n")
	}
	return "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: nigh\n" +
		"Comment:\n The program has libraries in it, each under a licence of its own:\n their texts are in /usr/share/doc/nigh/licences.txt, and\n" +
		" /usr/share/doc/nigh/nigh.spdx.json lists them.\n" +
		"\nFiles: *\nCopyright: " + owner + "\nLicense: Expat\n" + text.String()
}

// compress writes a file's content with gzip, with neither name nor date.
func compress(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return err
	}
	_, err = z.Write(text)
	if err := errors.Join(err, z.Close()); err != nil {
		return err
	}
	return os.WriteFile(to, b.Bytes(), 0o644)
}

// writeTarball writes what can be installed without a package manager: bin/nigh and systemd/install as in a checkout.
func (p *packed) writeTarball(stem, name string, list, licences []byte) error {
	folder := filepath.Join(p.work, "tarball", stem)
	manual, err := os.ReadFile(filepath.Join(p.release.sources, "cli", "nigh.1"))
	if err != nil {
		return err
	}
	program, err := os.ReadFile(p.program)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(folder, "bin"), 0o755); err != nil {
		return err
	}
	if err := systemd.Unpack(folder, string(manual)); err != nil {
		return err
	}
	err = errors.Join(
		os.WriteFile(filepath.Join(folder, "bin", "nigh"), program, 0o755),
		os.WriteFile(filepath.Join(folder, "nigh.spdx.json"), list, 0o644),
		os.WriteFile(filepath.Join(folder, "licences.txt"), licences, 0o644),
	)
	for _, document := range []string{"README.md", "CHANGELOG.md", "LICENSE", "SECURITY.md"} {
		text, readErr := os.ReadFile(filepath.Join(p.release.sources, document))
		err = errors.Join(err, readErr, os.WriteFile(filepath.Join(folder, document), text, 0o644))
	}
	if err != nil {
		return err
	}
	out, err := os.Create(filepath.Join(p.release.out, name))
	if err != nil {
		return err
	}
	z := gzip.NewWriter(out)
	w := tar.NewWriter(z)
	err = filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside := stem + strings.TrimPrefix(path, folder)
		h := &tar.Header{Name: inside, Mode: 0o644, ModTime: p.release.version.date, Uname: "root", Gname: "root", Format: tar.FormatUSTAR}
		if d.IsDir() {
			h.Typeflag, h.Mode, h.Name = tar.TypeDir, 0o755, inside+"/"
			return w.WriteHeader(h)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.HasPrefix(text, []byte("#!")) || inside == stem+"/bin/nigh" {
			h.Mode = 0o755
		}
		h.Size = int64(len(text))
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	})
	return errors.Join(err, w.Close(), z.Close(), out.Close())
}
