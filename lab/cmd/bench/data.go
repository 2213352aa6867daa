package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

const (
	fileSet = "file"
	treeSet = "tree"

	smallSize   = 4 << 10
	treeFolders = 100
)

// set is data to move.
type set struct {
	name  string
	title string
	path  string
	bytes int64
}

// makeSets writes the data below folder. It is random, and the same each time: what compresses gains nothing.
func makeSets(folder string, size int64, files int) ([]set, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	random := rand.NewChaCha8([32]byte([]byte("nigh's benchmark: any fixed seed")))
	file := set{fileSet, fmt.Sprintf("one file of %d MiB", size>>20), filepath.Join(folder, "large"), size}
	if err := writeFile(file.path, random, size); err != nil {
		return nil, err
	}
	tree := set{treeSet, fmt.Sprintf("%d files of 4 KiB", files), filepath.Join(folder, "small"), int64(files) * smallSize}
	for i := range files {
		dir := filepath.Join(tree.path, fmt.Sprintf("d%02d", i%treeFolders))
		if i < treeFolders {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return nil, err
			}
		}
		if err := writeFile(filepath.Join(dir, fmt.Sprintf("f%05d", i)), random, smallSize); err != nil {
			return nil, err
		}
	}
	return []set{file, tree}, nil
}

func writeFile(path string, r io.Reader, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, r, size)
	return errors.Join(err, f.Close())
}

// equal compares two files or two trees: names, kinds and bytes. Modes and times are not compared; not every tool keeps them.
func equal(want, got string) error {
	names, err := entries(want)
	if err != nil {
		return err
	}
	arrived, err := entries(got)
	if err != nil {
		return fmt.Errorf("what arrived: %w", err)
	}
	for name, mode := range arrived {
		if _, ok := names[name]; !ok {
			return fmt.Errorf("what arrived has %s (%v), which was not sent", name, mode)
		}
	}
	for name, mode := range names {
		there, ok := arrived[name]
		if !ok || there != mode {
			return fmt.Errorf("%s did not arrive as it was sent", name)
		}
		if mode.IsRegular() {
			if err := sameBytes(filepath.Join(want, name), filepath.Join(got, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// entries lists what is below root, with root itself as ".", by kind.
func entries(root string) (map[string]fs.FileMode, error) {
	found := map[string]fs.FileMode{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		found[name] = d.Type()
		return err
	})
	return found, err
}

func sameBytes(a, b string) error {
	fa, err := os.Open(a)
	if err != nil {
		return err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return err
	}
	defer fb.Close()
	ba, bb := make([]byte, 256<<10), make([]byte, 256<<10)
	for {
		na, erra := io.ReadFull(fa, ba)
		nb, errb := io.ReadFull(fb, bb)
		if na != nb || !bytes.Equal(ba[:na], bb[:nb]) {
			return fmt.Errorf("%s and %s differ", a, b)
		}
		ended := func(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
		switch {
		case ended(erra) && ended(errb):
			return nil
		case erra != nil || errb != nil:
			return errors.Join(erra, errb)
		}
	}
}
