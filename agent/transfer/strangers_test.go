package transfer

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"nigh/agent/content"
	"nigh/agent/identity"
)

// A crowd is any number of devices that the bed's device is asked by, without a network between them.
type crowd struct {
	t  *testing.T
	to *device
}

func (c crowd) member(i int) identity.DeviceID {
	return sha256.Sum256(fmt.Appendf(nil, "crowd %d", i))
}

func (c crowd) post(i int, path string, body any) int {
	c.t.Helper()
	p, err := json.Marshal(body)
	if err != nil {
		c.t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, "http://nigh"+path, bytes.NewReader(p))
	r.Header.Set("Test-Peer", c.member(i).String())
	w := httptest.NewRecorder()
	c.to.Handler().ServeHTTP(w, r)
	return w.Code
}

// offers makes member i offer once more and returns the name of the transfer and the answer.
func (c crowd) offers(i int) (x string, status int) {
	o := Offer{Version: 1, X: newHex(16), Summary: Summary{Root: content.Sum(nil), Size: 10, Files: 1, Bytes: 5, Tops: 1, Names: []string{"a"}}}
	return o.X, c.post(i, "/v1/offer", o)
}

// Strangers fill their own places and no others.
func TestStrangersOffersTakeNobodysPlace(t *testing.T) {
	b := newBed(t)
	trusted := func(id identity.DeviceID) bool { return id == crowd{}.member(0) }
	bob := b.device("bob", func(c *Config) {
		c.Decide = func(o Offer) Decision { return Decision{Answer: AnswerAsk, Stranger: !trusted(o.Peer)} }
	})
	c := crowd{t, bob}
	refused := 0
	for i := range 2 * maxStrangers {
		for range maxStrangerWaiting + 1 {
			if _, status := c.offers(1 + i); status == http.StatusTooManyRequests {
				refused++
			}
		}
	}
	if n := len(bob.Transfers()); n != maxStrangers || refused == 0 {
		t.Errorf("%d offers of strangers wait, %d were refused; want %d", n, refused, maxStrangers)
	}
	for i := range maxWaitingPerPeer {
		if _, status := c.offers(0); status != http.StatusAccepted {
			t.Fatalf("offer %d of a trusted device while strangers fill their places: status %d", i, status)
		}
	}
}

// A stranger that offers and takes it back again and again does not push what was received out of the history.
func TestStrangersDoNotFillTheHistory(t *testing.T) {
	b := newBed(t)
	alice := b.device("alice", nil)
	bob := b.device("bob", func(c *Config) {
		c.Decide = func(o Offer) Decision {
			if o.Peer == alice.id {
				return Accept
			}
			return Decision{Answer: AnswerAsk, Stranger: true}
		}
	})
	alice.send(bob, write(t, filepath.Join(t.TempDir(), "kept"), 1000))
	kept := bob.untilState(Done)
	c := crowd{t, bob}
	const times = 2 * maxNever
	for i := range times {
		x, status := c.offers(i)
		if status != http.StatusAccepted {
			t.Fatalf("offer %d: status %d", i, status)
		}
		if status := c.post(i, "/v1/x/"+x+"/state", stateMessage{State: Failed, Code: "cancelled"}); status/100 != 2 {
			t.Fatalf("taking offer %d back: status %d", i, status)
		}
	}
	c.offers(times) // the bound is kept at the next offer
	list := bob.Transfers()
	if n := len(list); n < maxNever || n > maxNever+5 { // with the one received, the one that waits, and the last, whose end may not be written yet
		t.Errorf("%d transfers are remembered, want %d", n, maxNever+2)
	}
	for _, tr := range list {
		if tr.ID == kept.ID {
			return
		}
	}
	t.Error("what was received is forgotten")
}
