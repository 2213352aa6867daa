package vm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"
)

// manifest is what a set of the cache holds and what it was made from.
type manifest struct {
	Recipe   string          `json:"recipe"`            // digest of this package's own inputs: scripts, lists, what is wanted
	Host     string          `json:"host,omitempty"`    // digest of the host's list of installed packages
	Version  string          `json:"version,omitempty"` // kernel's release
	Packages []string        `json:"packages"`          // NAME=VERSION
	Files    map[string]file `json:"files"`             // by path inside the folder of the parts
}

// file is the expected content of one file: a digest, or where a symbolic link points.
type file struct {
	SHA256 string `json:"sha256,omitempty"`
	Link   string `json:"link,omitempty"`
}

// recipeDigest changes when this package would build something else from the same packages.
func recipeDigest() string {
	h := sha256.New()
	fmt.Fprintln(h, "2", initScript, bootModules, keptModules, guestPrograms)
	return hex.EncodeToString(h.Sum(nil))
}

// hostDigest changes when a package is installed on the host or removed.
func hostDigest() string {
	status, err := os.ReadFile("/var/lib/dpkg/status")
	if err != nil {
		return "unknown"
	}
	sum := sha256.Sum256(status)
	return hex.EncodeToString(sum[:])
}

func readManifest(folder string) (*manifest, error) {
	data, err := os.ReadFile(filepath.Join(folder, "manifest.json"))
	if err != nil {
		return nil, fmt.Errorf("vm: manifest: %w", err)
	}
	m := &manifest{}
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("vm: manifest: %w", err)
	}
	return m, nil
}

func writeManifest(folder string, m *manifest) error {
	data, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		return fmt.Errorf("vm: manifest: %w", err)
	}
	path := filepath.Join(folder, "manifest.json")
	if err := os.WriteFile(path+".new", data, 0o644); err != nil {
		return fmt.Errorf("vm: manifest: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("vm: manifest: %w", err)
	}
	return nil
}

// verify compares the parts with the manifest: every file, nothing more, nothing less.
func verify(ctx context.Context, folder string, want map[string]file) error {
	got, err := measure(ctx, folder)
	if err != nil {
		return err
	}
	for path, w := range want {
		if g, ok := got[path]; !ok {
			return fmt.Errorf("vm: %s: %w", path, fs.ErrNotExist)
		} else if g != w {
			return fmt.Errorf("vm: %s has other content than it should", path)
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("vm: %d files, should be %d", len(got), len(want))
	}
	return nil
}

// measure takes the digest of every file below folder.
func measure(ctx context.Context, folder string) (map[string]file, error) {
	var paths []string
	links := map[string]file{}
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch relative := strings.TrimPrefix(path, folder+"/"); {
		case d.Type() == fs.ModeSymlink:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			links[relative] = file{Link: to}
		case d.Type().IsRegular():
			paths = append(paths, relative)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("vm: parts: %w", err)
	}
	digests := make([]file, len(paths))
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(runtime.NumCPU())
	for i, path := range paths {
		work.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			data, err := os.ReadFile(filepath.Join(folder, path))
			if err != nil {
				return fmt.Errorf("vm: parts: %w", err)
			}
			sum := sha256.Sum256(data)
			digests[i] = file{SHA256: hex.EncodeToString(sum[:])}
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		return nil, err
	}
	for i, path := range paths {
		links[path] = digests[i]
	}
	return links, nil
}
