package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"nigh/agent/private"
)

// KeyFile is the name of the key file in the state folder.
const KeyFile = "key.pem"

// maxKeyFile bounds what is read of the key file; ours has 119 bytes.
const maxKeyFile = 4096

// ErrDamaged is returned when the key file is there but holds no usable key. It
// is wrapped with the path, what is wrong and what to do. The file is never
// replaced: the key is the device, and a new one would be a stranger to every
// device that trusts this one.
var ErrDamaged = errors.New("the device key is damaged")

// Identity is this device's key in the forms that others need. It is read-only.
type Identity struct {
	// ID names the device.
	ID DeviceID
	// Certificate is self-signed, made anew at every start and carries the key.
	Certificate tls.Certificate
	// Created is true when this call to Load made the key.
	Created bool
	// Repaired is true when others could read the key file before this call
	// narrowed its mode; worth a warning.
	Repaired bool
}

// Load reads the device's key from the state folder dir, and makes both on first
// use: the folder with mode 0700, the key file (PKCS #8 in PEM) with mode 0600.
// Wider modes are narrowed. It returns an error wrapping [ErrDamaged] for a file
// that holds no Ed25519 key, and one wrapping private.ErrUnsafe for a folder or
// file that belongs to somebody else or is a symbolic link.
func Load(dir string) (*Identity, error) {
	if err := private.Dir(dir); err != nil {
		return nil, fmt.Errorf("identity: state folder: %w", err)
	}
	path := filepath.Join(dir, KeyFile)
	key, repaired, err := readKey(path)
	created := false
	if errors.Is(err, fs.ErrNotExist) {
		if err := createKey(dir, path); err != nil {
			return nil, fmt.Errorf("identity: make the device key: %w", err)
		}
		created = true
		key, repaired, err = readKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	id, err := FromKey(key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	cert, err := certificate(key)
	if err != nil {
		return nil, fmt.Errorf("identity: make the certificate: %w", err)
	}
	return &Identity{ID: id, Certificate: cert, Created: created, Repaired: repaired}, nil
}

func damaged(path, what string) error {
	return fmt.Errorf("%s: %s: %w: put back a copy of this file, or move it away to start as a new device",
		path, what, ErrDamaged)
}

func readKey(path string) (key ed25519.PrivateKey, repaired bool, err error) {
	// O_NONBLOCK: opening a FIFO in this place must not block for ever.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, false, fmt.Errorf("%s: a symbolic link: %w", path, private.ErrUnsafe)
	}
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	if repaired, err = private.File(f); err != nil {
		return nil, false, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, false, err
	}
	if len(text) > maxKeyFile {
		return nil, false, damaged(path, "too large")
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, false, damaged(path, "no PEM private key in it")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		// The parser's error is left out: it may quote what it could not read.
		return nil, false, damaged(path, "not PKCS #8")
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, false, damaged(path, "not an Ed25519 key")
	}
	return key, repaired, nil
}

// createKey writes a new key so that path either does not exist or holds the
// whole key, also after a power cut, and never replaces a file: of two processes
// that start at once one wins and both use its key.
func createKey(dir, path string) error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	return writeKey(dir, key, func(tmp string) error {
		if err := os.Link(tmp, path); !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	})
}

// writeKey writes a key into a file in dir that has no name for long, and has put give it one.
func writeKey(dir string, key ed25519.PrivateKey, put func(tmp string) error) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, KeyFile+".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // at worst the key keeps a second name, readable by the owner only
	defer tmp.Close()
	if err := pem.Encode(tmp, &pem.Block{Type: "PRIVATE KEY", Bytes: der}); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := put(tmp.Name()); err != nil {
		return err
	}
	return private.SyncDir(dir)
}

// Kept returns the name of the file in the state folder that has the key of a device that this machine was before
// [Sealed.Install].
func Kept(id DeviceID) string { return "key-" + id.Short() + ".pem" }

// Current returns the ID of the device key in the state folder dir; fs.ErrNotExist is wrapped when there is none, [ErrDamaged]
// when it cannot be used.
func Current(dir string) (DeviceID, error) {
	key, _, err := readKey(filepath.Join(dir, KeyFile))
	if err != nil {
		return DeviceID{}, fmt.Errorf("identity: %w", err)
	}
	return FromKey(key.Public().(ed25519.PublicKey))
}

// Install makes the opened key the device key of the state folder dir, which no agent may be using. What was there before keeps
// its bytes, under the name of [Kept]; whether it may be replaced is the caller's to ask. After a power cut either key is
// there, whole.
func (s Sealed) Install(dir string) error {
	if err := private.Dir(dir); err != nil {
		return fmt.Errorf("identity: state folder: %w", err)
	}
	path := filepath.Join(dir, KeyFile)
	before, err := Current(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err // a damaged key is not put away under a name that nobody can tell
	case before == s.ID:
		return nil
	default:
		if err := os.Link(path, filepath.Join(dir, Kept(before))); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("identity: keep the old key: %w", err)
		}
	}
	if err := writeKey(dir, s.key, func(tmp string) error { return os.Rename(tmp, path) }); err != nil {
		return fmt.Errorf("identity: write the device key: %w", err)
	}
	return nil
}

// certificate wraps the key for TLS. Everything but the key is a constant, so
// that the certificate tells nothing else about the device; the dates span all
// time for implementations that look at them.
func certificate(key ed25519.PrivateKey) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "nigh"},
		NotBefore:    time.Unix(0, 0).UTC(),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
