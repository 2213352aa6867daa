package message

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"nigh/agent/store"
)

// What a full history costs: at the start of an agent, in memory, and when it is searched.
func TestFullHistory(t *testing.T) {
	d := newBed(t).device("bob")
	text := strings.Repeat("größe ", maxHistoryBytes/maxHistory/8)
	err := d.store.Update(func(tx *store.Tx) error {
		for n := range maxHistory {
			r := record{Message: Message{Seq: uint64(n + 1), ID: fmt.Sprintf("m%012x", n), Direction: Receive, Peer: idOf(fmt.Sprint(n % 7)), Text: fmt.Sprint(text, n), Time: time.Unix(int64(n), 0)}}
			if err := tx.Bucket(bucketMessages).Put(seqKey(r.Seq), r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := time.Now()
	d.restart()
	loaded := time.Since(began)
	runtime.GC()
	runtime.ReadMemStats(&after)
	held := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	began = time.Now()
	list, _, err := d.List(t.Context(), Query{Search: fmt.Sprintf("GRÖSSE %d", 0)})
	searched := time.Since(began)
	if err != nil || len(list) != 0 {
		t.Errorf("%d messages, %v", len(list), err)
	}
	count, bytes := d.stored(bucketMessages)
	t.Logf("%d messages of %d bytes: loaded in %v, %d bytes of memory, searched in %v", count, bytes, loaded, held, searched)
	if held > 4<<20 {
		t.Errorf("%d messages take %d bytes of memory", count, held)
	}
}
