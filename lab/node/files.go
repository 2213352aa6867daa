package node

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Befriend makes two agents trust each other by their IDs, as people would with
// `nigh trust add`.
func Befriend(ctx context.Context, a, b *Agent) error {
	for _, p := range [][2]*Agent{{a, b}, {b, a}} {
		status, err := p[1].Client().Status(ctx)
		if err != nil {
			return fmt.Errorf("node: %w", err)
		}
		if _, errs, code := p[0].Run(ctx, "trust", "add", status.ID, "--name", p[1].Name); code != 0 {
			return fmt.Errorf("node: trust add: exit %d: %s", code, errs)
		}
	}
	return nil
}

// Random writes a file of random bytes, making its folder.
func Random(path string, size int64) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.Reader, size)
	return errors.Join(err, f.Close())
}

// Digest describes a file or a tree: every path below root with its kind and
// SHA-256, a line each, in order. Equal trees have equal digests.
func Digest(root string) (string, error) {
	var b strings.Builder
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if e.IsDir() {
			fmt.Fprintf(&b, "%s/\n", rel)
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %s %s\n", rel, e.Type(), hex.EncodeToString(h.Sum(nil)))
		return nil
	})
	return b.String(), err
}
