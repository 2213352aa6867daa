package hostile

import (
	"encoding/binary"
	"strings"
)

// File is one entry of a manifest, with any path and size.
type File struct {
	Path string
	Size uint64
}

// Manifest is an encoded list of files and what an offer says of it.
type Manifest struct {
	Blob  []byte
	Files []File
}

// NewManifest encodes files as they are.
func NewManifest(files ...File) Manifest {
	m := Manifest{Files: files}
	for _, f := range files {
		m.Blob = appendEntry(m.Blob, f)
	}
	return m
}

func appendEntry(p []byte, f File) []byte {
	p = append(p, 1) // a file without flags
	p = binary.AppendUvarint(p, 0)
	p = binary.AppendUvarint(p, uint64(len(f.Path)))
	p = append(p, f.Path...)
	p = binary.AppendUvarint(p, f.Size)
	p = binary.AppendVarint(p, 1)
	return binary.AppendUvarint(p, 0)
}

// Offer is the one that fits the manifest, with no more than 64 names that are good ones.
func (m Manifest) Offer() Offer {
	names, bytes := []string{}, uint64(0)
	for _, f := range m.Files {
		name, _, _ := strings.Cut(f.Path, "/")
		if len(names) < 64 {
			names = append(names, name)
		}
		bytes += f.Size
	}
	return Offer{
		"v": 1, "x": newX(), "label": "a present", "manifest_root": rootOf(m.Blob), "manifest_bytes": len(m.Blob),
		"files": len(m.Files), "dirs": 0, "bytes": bytes, "tops": len(m.Files), "names": names,
	}
}
