package identity

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"testing"
)

// fixed makes an identity from a seed.
func fixed(t *testing.T, seed byte) *Identity {
	t.Helper()
	s := make([]byte, ed25519.SeedSize)
	for i := range s {
		s[i] = seed
	}
	key := ed25519.NewKeyFromSeed(s)
	id, err := FromKey(key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := certificate(key)
	if err != nil {
		t.Fatal(err)
	}
	return &Identity{ID: id, Certificate: cert}
}

func shared(t *testing.T, a, b *Identity) [32]byte {
	t.Helper()
	s, err := a.Shared(b.Key())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSharedIsTheSameOnBothSidesOnly(t *testing.T) {
	a, b, c := fixed(t, 1), fixed(t, 2), fixed(t, 3)
	ab := shared(t, a, b)
	if ab != shared(t, b, a) {
		t.Error("the two sides have different secrets")
	}
	if ab == shared(t, a, c) || ab == shared(t, c, b) || ab == [32]byte{} {
		t.Error("a third device has the secret of two others")
	}
	// A device that is in the state of one of them, but with another's key.
	forged := &Identity{ID: a.ID, Certificate: c.Certificate}
	if ab == shared(t, forged, b) {
		t.Error("the ID alone gives the secret")
	}
}

func TestSharedVector(t *testing.T) {
	// Fixed for ever: two versions of the program must agree.
	const want = "6c09ffb6ae17acf220617d4a5655f11b923ddce561af3c03fce3518a193e9e28"
	s := shared(t, fixed(t, 1), fixed(t, 2))
	if got := hex.EncodeToString(s[:]); got != want {
		t.Errorf("the secret of two fixed keys is %s, not %s", got, want)
	}
}

func TestSharedRefusesBadKeys(t *testing.T) {
	a := fixed(t, 1)
	unhex := func(s string) (k PublicKey) {
		if n, err := hex.Decode(k[:], []byte(s)); n != len(k) || err != nil {
			t.Fatal(n, err)
		}
		return k
	}
	bad := map[string]PublicKey{
		"own":           a.Key(),
		"zero":          {},
		"identity":      unhex("0100000000000000000000000000000000000000000000000000000000000000"),
		"order 2":       unhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
		"order 8":       unhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
		"not a point":   unhex("0200000000000000000000000000000000000000000000000000000000000000"),
		"not canonical": unhex("f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
	}
	for name, key := range bad {
		if s, err := a.Shared(key); !errors.Is(err, ErrBadKey) || s != [32]byte{} {
			t.Errorf("%s: %x, %v", name, s, err)
		}
	}
	if _, err := (&Identity{ID: a.ID}).Shared(fixed(t, 2).Key()); !errors.Is(err, ErrBadKey) {
		t.Errorf("without a private key: %v", err)
	}
}

func TestKeyText(t *testing.T) {
	a := fixed(t, 1)
	if a.Key().ID() != a.ID || a.Key().IsZero() || !(PublicKey{}).IsZero() {
		t.Error("the key does not give the ID")
	}
	text, err := a.Key().MarshalText()
	var k PublicKey
	if err != nil || k.UnmarshalText(text) != nil || k != a.Key() {
		t.Errorf("%q reads as %x", text, k)
	}
	if text, err := (PublicKey{}).MarshalText(); err != nil || len(text) != 0 || k.UnmarshalText(text) != nil || !k.IsZero() {
		t.Error("the zero key has a text")
	}
	for _, s := range []string{"A", string(text[1:]), string(text) + "A", "!" + string(text[1:])} {
		if err := k.UnmarshalText([]byte(s)); !errors.Is(err, ErrBadKey) || !k.IsZero() {
			t.Errorf("%q: %v", s, err)
		}
	}
}
