package identity

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
)

// MinPassphrase is how many bytes a passphrase has at least: whoever has a sealed key may try as many as he likes.
const MinPassphrase = 10

const (
	sealRounds    = 1_000_000  // of PBKDF2 in what Seal writes: a second of a small machine
	sealMost      = 10_000_000 // of those that are taken: whoever made the file says how many
	sealLeast     = 1_000
	maxSealed     = 4096 // bytes of a sealed key in PEM; ours has some 400
	maxPassphrase = 1024 // bytes of a passphrase
	saltSize      = 16
	sealedType    = "ENCRYPTED PRIVATE KEY"
)

var (
	// ErrSealed is returned for text that is no sealed device key, or is sealed in a way that is not known.
	ErrSealed = errors.New("identity: not a sealed device key")
	// ErrPassphrase is returned for the wrong passphrase. A damaged key cannot be told from it.
	ErrPassphrase = errors.New("identity: wrong passphrase, or the sealed key is damaged")
	// ErrWeak is returned for a passphrase to seal with that is too short or too long.
	ErrWeak = fmt.Errorf("identity: a passphrase has %d bytes or more, at most %d", MinPassphrase, maxPassphrase)
)

// The sealed form is EncryptedPrivateKeyInfo of PKCS #8 (RFC 5958) with PBES2 (RFC 8018: PBKDF2 with HMAC-SHA-256, AES-256 in CBC
// mode), which other programs know too, in PEM.
var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidAES256 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
)

type (
	sealedKey struct {
		Scheme pkix.AlgorithmIdentifier
		Data   []byte
	}
	pbes2 struct{ Derivation, Encryption pkix.AlgorithmIdentifier }
	kdf   struct {
		Salt   []byte
		Rounds int
		Length int `asn1:"optional"`
		PRF    pkix.AlgorithmIdentifier
	}
)

// Seal returns the device key of the state folder dir sealed with a passphrase, in PEM, and the device's ID. It takes a second or
// so. The error wraps [ErrWeak], [ErrDamaged] or what the system said; fs.ErrNotExist when there is no key.
func Seal(dir string, passphrase []byte) ([]byte, DeviceID, error) {
	if len(passphrase) < MinPassphrase || len(passphrase) > maxPassphrase {
		return nil, DeviceID{}, ErrWeak
	}
	key, _, err := readKey(filepath.Join(dir, KeyFile))
	if err != nil {
		return nil, DeviceID{}, fmt.Errorf("identity: %w", err)
	}
	id, err := FromKey(key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, DeviceID{}, fmt.Errorf("identity: %w", err)
	}
	text, err := seal(key, passphrase, sealRounds)
	if err != nil {
		return nil, DeviceID{}, fmt.Errorf("identity: seal the key: %w", err)
	}
	return text, id, nil
}

func seal(key ed25519.PrivateKey, passphrase []byte, rounds int) ([]byte, error) {
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	salt, iv := make([]byte, saltSize), make([]byte, aes.BlockSize)
	rand.Read(salt) // never fails (crypto/rand)
	rand.Read(iv)
	block, err := derived(passphrase, salt, rounds)
	if err != nil {
		return nil, err
	}
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	for range pad {
		plain = append(plain, byte(pad))
	}
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(plain, plain)
	var failed error
	raw := func(v any) asn1.RawValue {
		der, err := asn1.Marshal(v)
		failed = errors.Join(failed, err)
		return asn1.RawValue{FullBytes: der}
	}
	how := pbes2{
		pkix.AlgorithmIdentifier{Algorithm: oidPBKDF2, Parameters: raw(kdf{Salt: salt, Rounds: rounds, PRF: pkix.AlgorithmIdentifier{Algorithm: oidSHA256, Parameters: asn1.NullRawValue}})},
		pkix.AlgorithmIdentifier{Algorithm: oidAES256, Parameters: raw(iv)},
	}
	whole := raw(sealedKey{pkix.AlgorithmIdentifier{Algorithm: oidPBES2, Parameters: raw(how)}, plain})
	return pem.EncodeToMemory(&pem.Block{Type: sealedType, Bytes: whole.FullBytes}), failed
}

// derived is the cipher that a passphrase gives.
func derived(passphrase, salt []byte, rounds int) (cipher.Block, error) {
	key, err := pbkdf2.Key(sha256.New, string(passphrase), salt, rounds, 32)
	if err != nil {
		return nil, err
	}
	return aes.NewCipher(key)
}

// Sealed is a device key that was opened with its passphrase.
type Sealed struct {
	ID  DeviceID
	key ed25519.PrivateKey
}

// Unseal opens what [Seal] made. The error wraps [ErrSealed] or [ErrPassphrase] and quotes nothing.
func Unseal(text, passphrase []byte) (Sealed, error) {
	if len(text) > maxSealed || len(passphrase) > maxPassphrase {
		return Sealed{}, ErrSealed
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != sealedType {
		return Sealed{}, ErrSealed
	}
	var whole sealedKey
	var how pbes2
	var d kdf
	var iv []byte
	for _, part := range []struct {
		into any
		from func() []byte
	}{
		{&whole, func() []byte { return block.Bytes }},
		{&how, func() []byte { return whole.Scheme.Parameters.FullBytes }},
		{&d, func() []byte { return how.Derivation.Parameters.FullBytes }},
		{&iv, func() []byte { return how.Encryption.Parameters.FullBytes }},
	} {
		if rest, err := asn1.Unmarshal(part.from(), part.into); err != nil || len(rest) > 0 {
			return Sealed{}, ErrSealed
		}
	}
	if !whole.Scheme.Algorithm.Equal(oidPBES2) || !how.Derivation.Algorithm.Equal(oidPBKDF2) || !d.PRF.Algorithm.Equal(oidSHA256) ||
		!how.Encryption.Algorithm.Equal(oidAES256) || len(iv) != aes.BlockSize || len(d.Salt) < 8 || d.Rounds < sealLeast || d.Rounds > sealMost ||
		len(whole.Data) == 0 || len(whole.Data)%aes.BlockSize != 0 {
		return Sealed{}, ErrSealed
	}
	opener, err := derived(passphrase, d.Salt, d.Rounds)
	if err != nil {
		return Sealed{}, fmt.Errorf("identity: %w", err)
	}
	plain := whole.Data
	cipher.NewCBCDecrypter(opener, iv).CryptBlocks(plain, plain)
	n := int(plain[len(plain)-1])
	if n == 0 || n > aes.BlockSize {
		return Sealed{}, ErrPassphrase
	}
	parsed, err := x509.ParsePKCS8PrivateKey(plain[:len(plain)-n])
	if err != nil {
		return Sealed{}, ErrPassphrase
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return Sealed{}, ErrSealed
	}
	id, err := FromKey(key.Public().(ed25519.PublicKey))
	if err != nil {
		return Sealed{}, fmt.Errorf("identity: %w", err)
	}
	return Sealed{ID: id, key: key}, nil
}
