package pairing

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"nigh/agent/trust"
)

// confirms has a device look at each confirmation before it is answered, and at its answer before that leaves.
func (d *device) confirms(before func(confirmMessage), after func(confirmMessage, confirmAnswer)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wrap = func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(r.URL.Path, "/confirm") {
				h.ServeHTTP(w, r)
				return
			}
			raw, _ := io.ReadAll(r.Body)
			var m confirmMessage
			_ = json.Unmarshal(raw, &m) // what is not one the handler refuses
			before(m)
			r.Body = io.NopCloser(bytes.NewReader(raw))
			said := httptest.NewRecorder()
			h.ServeHTTP(said, r)
			var a confirmAnswer
			_ = json.Unmarshal(said.Body.Bytes(), &a)
			after(m, a)
			w.WriteHeader(said.Code)
			_, _ = w.Write(said.Body.Bytes())
		})
	}
}

// nobody checks that the devices trust each other no more, once the second knows that it failed.
func nobody(t *testing.T, a, b *device, atA, atB Pairing) {
	t.Helper()
	is(t, "asker", a.outcome(atA.ID), ErrCancelled)
	deadline := time.After(patience)
	for {
		b.mu.Lock()
		news := b.news
		b.mu.Unlock()
		p, err := b.Wait(wait(t), atB.ID)
		if p.State == Failed {
			is(t, "asked", err, ErrRefused)
			break
		}
		select {
		case <-news:
		case <-deadline:
			t.Fatalf("the asked side keeps %+v", p)
		}
	}
	if a.trusts(b.id.ID) || b.trusts(a.id.ID) {
		t.Errorf("the asker trusts: %t, the asked: %t", a.trusts(b.id.ID), b.trusts(a.id.ID))
	}
}

func ignored(confirmMessage)                {}
func unheard(confirmMessage, confirmAnswer) {}

// The asker's user takes the yes back while the other side's is on its way.
func TestNoCrossesTheLastMessage(t *testing.T) {
	a, b := two(t)
	atA, atB := begin(t, a, b)
	no := sync.OnceFunc(func() { a.answer(atA, false) })
	b.confirms(ignored, func(_ confirmMessage, said confirmAnswer) {
		if said.State == "paired" {
			no()
		}
	})
	b.answer(atB, true)
	a.answer(atA, true)
	nobody(t, a, b, atA, atB)
	b.confirms(ignored, unheard)
	b.forgive()
	paired(t, a, b) // nothing of it is left
}

// The asker's no is on its way when the other side's user says yes, which ends it there.
func TestYesCrossesTheNo(t *testing.T) {
	a, b := two(t)
	atA, atB := begin(t, a, b)
	yes := sync.OnceFunc(func() { b.answer(atB, true) })
	no := sync.OnceFunc(func() { a.answer(atA, false) })
	b.confirms(func(m confirmMessage) {
		if m.Cancel {
			yes()
			if !b.trusts(a.id.ID) {
				t.Error("the yes did not count yet")
			}
		}
	}, func(m confirmMessage, _ confirmAnswer) {
		if m.MAC != nil {
			no()
		}
	})
	a.answer(atA, true)
	nobody(t, a, b, atA, atB)
}

// The asker's no comes while the other side writes its trust book.
func TestNoWhileTheBookIsWritten(t *testing.T) {
	a, b := two(t)
	atA, atB := begin(t, a, b)
	writing, heard := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() {
		close(writing)
		<-heard
	})
	defer b.book.Changes(func(c trust.Change) {
		if c.New.Standing == trust.Trusted {
			once()
		}
	})()
	var answered sync.WaitGroup
	defer answered.Wait()
	no := sync.OnceFunc(func() {
		answered.Go(func() { b.answer(atB, true) })
		<-writing
		a.answer(atA, false)
	})
	over := sync.OnceFunc(func() { close(heard) })
	b.confirms(ignored, func(m confirmMessage, _ confirmAnswer) {
		switch {
		case m.Cancel:
			over()
		case m.MAC != nil:
			no()
		}
	})
	a.answer(atA, true)
	nobody(t, a, b, atA, atB)
}

// The asked side's user takes the yes back while the asker's is on its way: that comes too late.
func TestAskedTakesItBackBeforeTheLastMessage(t *testing.T) {
	a, b := two(t)
	atA, atB := begin(t, a, b)
	no := sync.OnceFunc(func() { b.answer(atB, false) })
	b.confirms(func(m confirmMessage) {
		if m.MAC != nil {
			no()
		}
	}, unheard)
	b.answer(atB, true)
	a.answer(atA, true)
	is(t, "asker", a.outcome(atA.ID), ErrRefused)
	is(t, "asked", b.outcome(atB.ID), ErrCancelled)
	if a.trusts(b.id.ID) || b.trusts(a.id.ID) {
		t.Error("somebody is trusted")
	}
}

// Two devices that trust each other pair again, and the no of one crosses the yes of the other: they go on trusting.
func TestUndoKeepsWhatWasTrusted(t *testing.T) {
	a, b := two(t)
	paired(t, a, b)
	atA, atB := begin(t, a, b)
	no, undone := sync.OnceFunc(func() { a.answer(atA, false) }), make(chan struct{})
	b.confirms(ignored, func(m confirmMessage, said confirmAnswer) {
		switch {
		case m.Undo:
			close(undone)
		case said.State == "paired":
			no()
		}
	})
	b.answer(atB, true)
	a.answer(atA, true)
	is(t, "asker", a.outcome(atA.ID), ErrCancelled)
	<-undone
	if !a.trusts(b.id.ID) || !b.trusts(a.id.ID) {
		t.Errorf("the asker trusts: %t, the asked: %t", a.trusts(b.id.ID), b.trusts(a.id.ID))
	}
}
