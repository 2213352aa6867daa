package recognise

import (
	"bytes"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"nigh/agent/identity"
)

func device(t *testing.T) *identity.Identity {
	t.Helper()
	id, err := identity.Load(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func friend(i *identity.Identity) Friend { return Friend{i.ID, i.Key()} }

// pairOf returns two devices that trust each other.
func pairOf(t *testing.T, open bool) (a, b *Recogniser) {
	t.Helper()
	ia, ib := device(t), device(t)
	a, b = New(ia, open), New(ib, open)
	a.Befriend([]Friend{friend(ib)})
	b.Befriend([]Friend{friend(ia)})
	return a, b
}

// heard is an advert after its way through the air.
func heard(t *testing.T, r *Recogniser) Advert {
	t.Helper()
	a, err := Decode(r.Advert().Encode())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestFriendsRecogniseEachOther(t *testing.T) {
	for _, open := range []bool{false, true} {
		a, b := pairOf(t, open)
		stranger := New(device(t), open)
		stranger.Befriend([]Friend{friend(a.self), friend(b.self)}) // whom it trusts is its own affair
		for name, advert := range map[string]func() Advert{
			"vendor extension": func() Advert { return heard(t, a) },
			"name":             func() Advert { v, _ := FromName(a.Advert().Name()); return v },
			"text":             func() Advert { v, _ := FromText(a.Advert().Text()); return v },
		} {
			if id, ok := b.Who(advert()); !ok || id != a.self.ID {
				t.Errorf("%s: the friend is %v, %v", name, id.Short(), ok)
			}
			if id, ok := stranger.Who(advert()); ok {
				t.Errorf("%s: a stranger recognises %v", name, id.Short())
			}
			if _, ok := a.Who(advert()); ok {
				t.Errorf("%s: a device recognises its own advert as a friend's", name)
			}
		}
		if _, ok := b.Who(heard(t, stranger)); ok {
			t.Error("a device that is not trusted is recognised")
		}
		// A friend's tags under another's key are a forgery.
		forged := heard(t, a)
		forged.Key = stranger.self.Key()
		if id, ok := b.Who(forged); ok {
			t.Errorf("a forged key passes as %v", id.Short())
		}
	}
}

func TestNothingStaysTheSame(t *testing.T) {
	a, b := pairOf(t, false)
	old := heard(t, a)
	a.Renew()
	now := heard(t, a)
	if old.Nonce == now.Nonce || slices.ContainsFunc(now.Tags, func(tag Tag) bool { return slices.Contains(old.Tags, tag) }) {
		t.Error("a stranger can tell that it is the same device")
	}
	if a.Advert().Name() == b.Advert().Name() {
		t.Error("two devices have one name")
	}
	if id := []byte(a.self.ID.Short()); bytes.Contains(a.Advert().Encode(), id) || strings.Contains(a.Advert().Name(), string(id)) {
		t.Error("the ID is in the advert")
	}
	if key := a.self.Key(); bytes.Contains(a.Advert().Encode(), key[:]) {
		t.Error("the key is in the advert")
	}
}

func TestPINs(t *testing.T) {
	a, b := pairOf(t, false)
	c := New(device(t), false)
	c.Befriend([]Friend{friend(a.self), friend(b.self)})
	form := regexp.MustCompile(`^[0-9]{8}$`)
	negotiate := func(x, y *Recogniser) string {
		t.Helper()
		pin, shows, err := x.Negotiation(y.self.ID, heard(t, y).Nonce)
		if err != nil || !form.MatchString(pin) || !valid(pin) || shows != (x.self.ID.Compare(y.self.ID) < 0) {
			t.Fatalf("%q, %v, %v", pin, shows, err)
		}
		return pin
	}
	ab, ba := negotiate(a, b), negotiate(b, a)
	if ab != ba {
		t.Errorf("the two derive %s and %s", ab, ba)
	}
	if negotiate(c, a) == ab || negotiate(c, b) == ab {
		t.Error("a third device has the PIN")
	}
	a.Renew()
	if after := negotiate(a, b); after == ab || after != negotiate(b, a) {
		t.Error("the PIN of the next attempt is the same, or differs between the two")
	}
	// Whoever repeats an old advert of b gets a PIN that is of use to nobody.
	recorded := heard(t, b)
	b.Renew()
	if pin, _, _ := a.Negotiation(b.self.ID, recorded.Nonce); pin == negotiate(b, a) {
		t.Error("a recorded advert gives the PIN of today")
	}
	join, err := a.Joining(b.self.ID, heard(t, b).Nonce)
	admit, err2 := b.Admitting(a.self.ID)
	if err != nil || err2 != nil || join != admit || !valid(join) || join == negotiate(a, b) {
		t.Errorf("join with %q (%v), admit with %q (%v)", join, err, admit, err2)
	}
	if other, _ := b.Joining(a.self.ID, heard(t, a).Nonce); other == join {
		t.Error("joining has the same PIN in both directions")
	}
	b.Renew()
	if again, _ := b.Admitting(a.self.ID); again == join {
		t.Error("a second client gets the same PIN")
	}
	for _, err := range []error{
		func() error { _, _, err := a.Negotiation(c.self.ID, Nonce{}); return err }(),
		func() error { _, err := a.Joining(c.self.ID, Nonce{}); return err }(),
		func() error { _, err := a.Admitting(c.self.ID); return err }(),
	} {
		if !errors.Is(err, ErrStranger) {
			t.Errorf("PIN with a stranger: %v", err)
		}
	}
}

// valid is the check of WPS, written down once more: the weighted sum of all
// eight digits.
func valid(pin string) bool {
	sum := 0
	for i, c := range pin {
		sum += int(c-'0') * []int{3, 1}[i%2]
	}
	return sum%10 == 0
}

func TestCheckDigit(t *testing.T) {
	// 12345670 is the example that everybody uses.
	for n, want := range map[uint64]uint64{1234567: 0, 0: 0, 1: 7, 9999999: 5} {
		if got := checkDigit(n); got != want {
			t.Errorf("checkDigit(%d) = %d, want %d", n, got, want)
		}
	}
}

func TestManyFriends(t *testing.T) {
	self := device(t)
	r := New(self, false)
	var friends []Friend
	var others []*Recogniser
	for range MaxTags + 3 {
		i := device(t)
		friends = append(friends, friend(i))
		o := New(i, false)
		o.Befriend([]Friend{friend(self)})
		others = append(others, o)
	}
	r.Befriend(append(friends, Friend{ID: identity.DeviceID{1}})) // one without a key
	last := others[len(others)-1]
	if size := len(r.Advert().Encode()); size > MaxAdvert {
		t.Errorf("%d bytes", size)
	}
	for i, o := range others {
		if _, ok := o.Who(heard(t, r)); ok != (i < MaxTags) {
			t.Errorf("friend %d: %v", i, ok)
		}
	}
	r.Prefer(last.self.ID)
	if _, ok := last.Who(heard(t, r)); !ok {
		t.Error("the preferred friend does not recognise us")
	}
	if a, _ := FromName(r.Advert().Name()); len(a.Tags) != nameTags {
		t.Errorf("the name has %d tags", len(a.Tags))
	} else if _, ok := last.Who(a); !ok {
		t.Error("the preferred friend does not recognise our name")
	}
	if n := len(r.Advert().Name()); n != 32 {
		t.Errorf("the name has %d bytes", n)
	}
	if n := len(r.Advert().Text()); n > 253 {
		t.Errorf("the text has %d bytes", n)
	}
}

func TestDecodeRefuses(t *testing.T) {
	a, _ := pairOf(t, true)
	good := a.Advert().Encode()
	if v, err := Decode(good); err != nil || v.Key != a.self.Key() {
		t.Fatal(err)
	}
	change := func(i int, b byte) []byte { c := slices.Clone(good); c[i] = b; return c }
	for name, b := range map[string][]byte{
		"empty": nil, "vendor only": good[:3], "other vendor": change(0, 0), "version": change(3, 2), "flags": change(4, 0x05),
		"half a nonce": good[:10], "half a key": good[:20], "half a tag": good[:len(good)-1], "long": append(slices.Clone(good), make([]byte, MaxAdvert)...),
		"no key": append(slices.Clone(good[:headSize]), make([]byte, keySize)...),
	} {
		if v, err := Decode(b); !errors.Is(err, ErrNotAdvert) || v.Tags != nil || !v.Key.IsZero() {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
	}
	for _, s := range []string{"", "bob", strings.Repeat("é", 16), strings.Repeat("-", 33), strings.Repeat(" ", 32)} {
		if _, err := FromName(s); !errors.Is(err, ErrNotAdvert) {
			t.Errorf("name %q: %v", s, err)
		}
	}
	for _, s := range []string{"", "A", "AAAA", strings.Repeat("A", 256), "AAAAAAAAAAA="} {
		if _, err := FromText(s); !errors.Is(err, ErrNotAdvert) {
			t.Errorf("text %q: %v", s, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("NGH\x01\x00nonce678tag1tag2"))
	f.Add(append([]byte("NGH\x01\x01nonce678"), make([]byte, 40)...))
	self := &identity.Identity{}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := Decode(b)
		if err != nil {
			if !errors.Is(err, ErrNotAdvert) {
				t.Errorf("untyped error %v", err)
			}
		} else if !bytes.Equal(a.Encode(), b) {
			t.Errorf("%x reads as %+v", b, a)
		}
		if _, ok := New(self, false).Who(a); ok {
			t.Error("a device without friends recognises one")
		}
		for _, read := range []func(string) (Advert, error){FromName, FromText} {
			if _, err := read(string(b)); err != nil && !errors.Is(err, ErrNotAdvert) {
				t.Errorf("untyped error %v", err)
			}
		}
	})
}
