package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// The sets of data.
const (
	largeSet = "large"
	smallSet = "small"
	mixedSet = "mixed"
)

const (
	smallSize    = 4 << 10
	treeFolders  = 100
	mixedFiles   = 2000
	mixedBytes   = 430_000_000
	mixedFolders = 160
)

// set is data to move.
type set struct {
	name  string
	title string
	path  string
	bytes int64
}

// makeSet writes a set of data into a folder of its own below root. It is random, and the same each time: what compresses
// gains nothing.
func makeSet(root, name string, size int64, files int) (set, error) {
	folder := filepath.Join(root, name)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return set{}, err
	}
	random := rand.NewChaCha8([32]byte([]byte("nigh's benchmark: any fixed seed")))
	switch name {
	case largeSet:
		s := set{name, fmt.Sprintf("one file of %d MiB", size>>20), filepath.Join(folder, "film"), size}
		return s, writeFile(s.path, random, size)
	case smallSet:
		s := set{name, fmt.Sprintf("%d files of 4 KiB", files), filepath.Join(folder, "notes"), int64(files) * smallSize}
		return s, writeTree(s.path, random, slices.Repeat([]int64{smallSize}, files), treeFolders)
	case mixedSet:
		sizes := mixedSizes(random)
		s := set{name, fmt.Sprintf("%d files of mixed sizes, %d MB", mixedFiles, mixedBytes/1_000_000), filepath.Join(folder, "album"), mixedBytes}
		return s, writeTree(s.path, random, sizes, mixedFolders)
	}
	return set{}, fmt.Errorf("no set of data is named %s", name)
}

// mixedSizes are log-normal, as the sizes of people's files are, and have the sum mixedBytes.
func mixedSizes(source rand.Source) []int64 {
	const sigma = 1.8
	random := rand.New(source)
	raw, sum := make([]float64, mixedFiles), 0.0
	for i := range raw {
		raw[i] = math.Exp(sigma * random.NormFloat64())
		sum += raw[i]
	}
	sizes, left := make([]int64, mixedFiles), int64(mixedBytes)
	for i := range sizes {
		sizes[i] = int64(raw[i] / sum * mixedBytes)
		left -= sizes[i]
	}
	sizes[0] += left
	return sizes
}

// writeTree writes files of these sizes, shared among so many folders below root.
func writeTree(root string, random io.Reader, sizes []int64, folders int) error {
	for i, size := range sizes {
		dir := filepath.Join(root, fmt.Sprintf("d%03d", i%folders))
		if i < folders {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
		}
		if err := writeFile(filepath.Join(dir, fmt.Sprintf("f%06d", i)), random, size); err != nil {
			return err
		}
	}
	return nil
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

// noise is size bytes that look random, the same for each name.
func noise(size int64, name string) []byte {
	raw := make([]byte, size)
	var seed [32]byte
	copy(seed[:], name)
	_, _ = rand.NewChaCha8(seed).Read(raw) // never fails
	return raw
}
