package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// nfpmModule is the last version of nfpm whose own modules can be had everywhere.
const nfpmModule = "github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.44.2"

// formats by the names that nfpm has for them, and the one that it does not write.
var formats = []string{"deb", "rpm", "apk", "archlinux", tarball}

const tarball = "tarball"

// extensions of the files.
var extensions = map[string]string{"deb": ".deb", "rpm": ".rpm", "apk": ".apk", "archlinux": ".pkg.tar.zst", tarball: ".tar.gz"}

const (
	maintainer  = "The nigh authors <nigh@packages.example>"
	description = `files to devices nearby, without router or internet
nigh links machines that are near each other, over Wi-Fi Direct, LAN or a bare
cable, proves who is there by keys, and moves files between them that resume
by themselves. It is one program: an agent, a terminal UI and a command line.`
	summary = "Files to devices nearby, without router or internet"
)

// installNfpm returns the path of nfpm, which it builds when this Go has not built it yet: go install asks the network each time.
func installNfpm(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	folder := filepath.Join(cache, "nigh-release")
	_, number, _ := strings.Cut(nfpmModule, "@")
	path := filepath.Join(folder, "nfpm-"+number+"-"+runtime.Version())
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(folder, "making-")
	if err != nil {
		return "", err
	}
	// For this machine, whatever is being built.
	_, err = output(ctx, work, []string{"GOBIN=" + work, "GOOS=", "GOARCH=", "GOARM=", "CGO_ENABLED=0"}, "go", "install", nfpmModule)
	if err == nil {
		err = os.Rename(filepath.Join(work, "nfpm"), path)
	}
	return path, errors.Join(err, os.RemoveAll(work))
}

// config is nfpm's configuration, of which JSON is a form (https://nfpm.goreleaser.com/configuration).
type config struct {
	Name            string         `json:"name"`
	Arch            string         `json:"arch"`
	Platform        string         `json:"platform"`
	Version         string         `json:"version"`
	Release         string         `json:"release"`
	Section         string         `json:"section,omitempty"`
	Priority        string         `json:"priority,omitempty"`
	Maintainer      string         `json:"maintainer"`
	Description     string         `json:"description"`
	License         string         `json:"license,omitempty"`
	Changelog       string         `json:"changelog,omitempty"`
	DisableGlobbing bool           `json:"disable_globbing"`
	MTime           time.Time      `json:"mtime"`
	Recommends      []string       `json:"recommends,omitempty"`
	Contents        []content      `json:"contents"`
	Scripts         scripts        `json:"scripts"`
	Deb             *debOptions    `json:"deb,omitempty"`
	RPM             *rpmOptions    `json:"rpm,omitempty"`
	APK             *upgradeScript `json:"apk,omitempty"`
	ArchLinux       *upgradeScript `json:"archlinux,omitempty"`
}

type content struct {
	Source      string    `json:"src,omitempty"`
	Destination string    `json:"dst"`
	Type        string    `json:"type,omitempty"` // dir, config|noreplace; "" = file
	FileInfo    *fileInfo `json:"file_info,omitempty"`
}

type fileInfo struct {
	Mode  fs.FileMode `json:"mode"`
	MTime time.Time   `json:"mtime"`
}

// scripts are paths of files.
type scripts struct {
	PostInstall string `json:"postinstall,omitempty"`
	PreRemove   string `json:"preremove,omitempty"`
	PostRemove  string `json:"postremove,omitempty"`
}

type debOptions struct {
	Compression string `json:"compression"`
}

type rpmOptions struct {
	BuildHost string `json:"buildhost"`
	Summary   string `json:"summary"`
}

type upgradeScript struct {
	Packager string `json:"packager,omitempty"`
	Scripts  struct {
		PostUpgrade string `json:"postupgrade"`
	} `json:"scripts"`
}

// writePackage has nfpm write one package.
func (p *packed) writePackage(ctx context.Context, format, name string) error {
	contents, err := p.contents(format)
	if err != nil {
		return err
	}
	c := config{
		Name: "nigh", Arch: p.arch.nfpm, Platform: "linux", Version: p.release.version.number, Release: "1", Maintainer: maintainer,
		Description: description, License: "MIT", DisableGlobbing: true, MTime: p.release.version.date, Contents: contents,
	}
	upgrade, err := p.scripts(format, &c.Scripts)
	if err != nil {
		return err
	}
	switch format {
	case "deb":
		c.Section, c.Priority, c.License = "net", "optional", "" // the licence is in the file copyright
		// procps has the /bin/kill of systemctl reload.
		c.Recommends = []string{"wpasupplicant", "default-dbus-system-bus | dbus-system-bus", "procps"}
		c.Deb = &debOptions{Compression: "xz"}
		if c.Changelog, err = p.debChangelog(); err != nil {
			return err
		}
	case "rpm":
		_, c.Description, _ = strings.Cut(description, "\n") // the first line is the summary
		c.Recommends = []string{"wpa_supplicant", "dbus"}
		c.RPM = &rpmOptions{BuildHost: "localhost", Summary: summary}
	case "apk":
		c.Description = summary // one line is what it has room for
		c.APK = &upgradeScript{}
		c.APK.Scripts.PostUpgrade = upgrade
	case "archlinux":
		c.Description = summary
		c.ArchLinux = &upgradeScript{Packager: maintainer}
		c.ArchLinux.Scripts.PostUpgrade = upgrade
	}
	raw, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		return err
	}
	path := filepath.Join(p.work, format+".json")
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		return err
	}
	target, err := filepath.Abs(filepath.Join(p.release.out, name))
	if err != nil {
		return err
	}
	_, err = output(ctx, p.work, []string{"SOURCE_DATE_EPOCH=" + fmt.Sprint(p.release.version.date.Unix())}, p.nfpm, "package", "--config", path, "--packager", format, "--target", target)
	return err
}

// ownFolders are the ones that no other package has: they go when the package goes.
func ownFolder(name string) bool {
	return strings.HasPrefix(name, "/usr/share/nigh") || name == "/usr/libexec/nigh" || name == "/usr/share/doc/nigh"
}

// contents lists what lies in the stage, at its places in packages of a format.
func (p *packed) contents(format string) ([]content, error) {
	var list []content
	add := func(name, source, kind string, mode fs.FileMode) {
		list = append(list, content{Source: source, Destination: name, Type: kind, FileInfo: &fileInfo{mode, p.release.version.date}})
	}
	err := filepath.WalkDir(p.stage(), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, p.stage())
		switch {
		case d.IsDir():
			if ownFolder(name) {
				add(name, "", "dir", 0o755)
			}
			return nil
		case !d.Type().IsRegular():
			return errors.New(name + " is not a regular file")
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		kind := ""
		if strings.HasPrefix(name, "/etc/") {
			kind = "config|noreplace"
		}
		if format == "deb" {
			name = onDebian(name)
		}
		if name != "" {
			add(name, path, kind, info.Mode().Perm())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if format == "deb" {
		add("/usr/share/lintian/overrides/nigh", filepath.Join(p.release.sources, "systemd", "lintian-overrides"), "", 0o644)
	}
	return list, nil
}

// onDebian is the name that Debian has for a file, where it has another one.
func onDebian(name string) string {
	if name == "/usr/share/zsh/site-functions/_nigh" {
		return "/usr/share/zsh/vendor-completions/_nigh" // the folder of administrators is the other one
	}
	return name
}

// debChangelog writes what nfpm makes Debian's own changelog of: one entry, which leads to the one of nigh.
func (p *packed) debChangelog() (string, error) {
	type note struct {
		Note string `json:"note"`
	}
	entries := []any{map[string]any{
		"semver": p.release.version.number, "date": p.release.version.date, "packager": maintainer,
		"deb":     map[string]any{"urgency": "medium", "distributions": []string{"stable"}},
		"changes": []note{{"What is new is in changelog.gz, beside this file."}},
	}}
	raw, err := json.Marshal(entries)
	if err != nil {
		return "", err
	}
	path := filepath.Join(p.work, "debchangelog.json")
	return path, os.WriteFile(path, raw, 0o644)
}
