package vm

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The cache has
//
//	lock            taken by whoever looks at the cache or changes it
//	debs/           the packages that the sets were made of
//	sets/KIND-KEY/  one set each: manifest.json, its files below parts/, and used, which whoever uses the set holds a lock on
//
// A key is the digest of what the set is made from. So checkouts with different recipes, or a host that got other packages,
// have sets beside each other, and nobody's guest loses the files it was booted from.

// keptSets is how many sets of a kind stay in the cache, the ones used last. Those in use stay too.
const keptSets = 3

// set is something that was built and checked, in use until release.
type set struct {
	*manifest
	folder string   // of its files
	built  bool     // just now
	used   *os.File // holds the lock
}

// release lets others remove the set when newer ones are there. It may be called twice.
func (s *set) release() error {
	if s == nil || s.used == nil {
		return nil
	}
	err := s.used.Close()
	s.used = nil
	if err != nil {
		return fmt.Errorf("vm: cache: %w", err)
	}
	return nil
}

// setKey names a set after what it is made from.
func setKey(recipe string, packages []string) string {
	sum := sha256.Sum256([]byte(recipe + "\n" + strings.Join(packages, "\n")))
	return hex.EncodeToString(sum[:8])
}

// setFolders gives the folders of a kind's sets, the one used last first. Kind "" stands for all.
func setFolders(cache, kind string) []string {
	pattern := "*"
	if kind != "" {
		pattern = kind + "-" + strings.Repeat("[0-9a-f]", 16)
	}
	found, _ := filepath.Glob(filepath.Join(cache, "sets", pattern)) // the pattern is well-formed
	type aged struct {
		folder string
		when   time.Time
	}
	var sets []aged
	for _, folder := range found {
		info, err := os.Stat(filepath.Join(folder, "used"))
		if err != nil {
			continue // one that is being built, or was not finished
		}
		sets = append(sets, aged{folder, info.ModTime()})
	}
	slices.SortStableFunc(sets, func(a, b aged) int { return cmp.Or(b.when.Compare(a.when), cmp.Compare(a.folder, b.folder)) })
	folders := make([]string, len(sets))
	for i, s := range sets {
		folders[i] = s.folder
	}
	return folders
}

// hold marks the set in folder as used now, and by this process until release. The cache must be locked.
func hold(folder string, m *manifest, built bool) (*set, error) {
	path := filepath.Join(folder, "used")
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("vm: cache: %w", err)
	}
	// Nobody has it exclusively for longer than it takes to remove a set, and that under the cache's lock.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH); err != nil {
		f.Close()
		return nil, fmt.Errorf("vm: cache: lock %s: %w", path, err)
	}
	now := time.Now()
	if err := os.Chtimes(path, now, now); err != nil {
		f.Close()
		return nil, fmt.Errorf("vm: cache: %w", err)
	}
	return &set{manifest: m, folder: filepath.Join(folder, "parts"), built: built, used: f}, nil
}

// install builds a set with fill, which writes its files into the folder it is given, and puts it in place. The cache must be
// locked. What was in its place was damaged.
func install(ctx context.Context, cache, kind string, m *manifest, fill func(folder string) error) (*set, error) {
	fail := func(err error) (*set, error) { return nil, fmt.Errorf("vm: build: %w", err) }
	fresh := filepath.Join(cache, "sets", "new")
	if err := os.RemoveAll(fresh); err != nil {
		return fail(err)
	}
	parts := filepath.Join(fresh, "parts")
	if err := os.MkdirAll(parts, 0o755); err != nil {
		return fail(err)
	}
	err := fill(parts)
	if err == nil {
		m.Files, err = measure(ctx, parts)
	}
	if err == nil {
		err = writeManifest(fresh, m)
	}
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(fresh, "used"), nil, 0o644); err != nil {
		return fail(err)
	}
	folder := filepath.Join(cache, "sets", kind+"-"+setKey(m.Recipe, m.Packages))
	if err := os.RemoveAll(folder); err != nil {
		return fail(err)
	}
	if err := os.Rename(fresh, folder); err != nil {
		return fail(err)
	}
	return hold(folder, m, true)
}

// prune removes the sets that nobody uses and that are not among the last used of their kind, and the packages that no set
// was made of. The cache must be locked.
func prune(cache, kind string, logger *slog.Logger) {
	for i, folder := range setFolders(cache, kind) {
		if i < keptSets {
			continue
		}
		if err := removeUnused(folder); err != nil {
			logger.Warn("Cannot remove an old part of the cache", "folder", folder, "error", err)
		}
	}
	wanted := map[string]bool{}
	for _, folder := range setFolders(cache, "") {
		m, err := readManifest(folder)
		if err != nil {
			continue
		}
		for _, p := range m.Packages {
			if path, err := debFile(filepath.Join(cache, "debs"), p); err == nil {
				wanted[path] = true
			}
		}
	}
	all, _ := filepath.Glob(filepath.Join(cache, "debs", "*.deb")) // the pattern is well-formed
	for _, path := range all {
		if wanted[path] {
			continue
		}
		if err := os.Remove(path); err != nil {
			logger.Warn("Cannot remove an old package from the cache", "path", path, "error", err)
		}
	}
}

// removeUnused removes a set unless somebody holds it.
func removeUnused(folder string) error {
	f, err := os.Open(filepath.Join(folder, "used"))
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.RemoveAll(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// lock takes the lock file, or waits for it until ctx ends.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("vm: lock: %w", err)
	}
	got := make(chan error, 1)
	go func() { got <- unix.Flock(int(f.Fd()), unix.LOCK_EX) }()
	select {
	case err := <-got:
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("vm: lock %s: %w", path, err)
		}
		return func() { f.Close() }, nil
	case <-ctx.Done():
		// The goroutine ends, and the descriptor with it, when the present holder lets go.
		go func() { <-got; f.Close() }() //nolint:errcheck // with the lock or without it, nobody waits for it any more
		return nil, fmt.Errorf("vm: cache is in use: %w", ctx.Err())
	}
}
