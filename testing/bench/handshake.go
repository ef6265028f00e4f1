package main

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	cpuRounds     = 5    // the median of so many
	cpuHandshakes = 1500 // in each
	inFlight      = 64   // initiators at a time
	memorySAs     = 20000
)

// handshakes measures the responder's CPU for one IKE_SA_INIT, IKE_AUTH and Child SA, beside the X25519 in it.
func handshakes() ([]row, error) {
	b, err := newBed()
	if err != nil {
		return nil, err
	}
	defer b.stop()
	if err := b.run(500); err != nil { // warm up
		return nil, err
	}
	var ours, x25519, ratios []float64
	for range cpuRounds {
		x, err := exchange(2000)
		if err != nil {
			return nil, err
		}
		before, err := b.cpu()
		if err != nil {
			return nil, err
		}
		if err := b.run(cpuHandshakes); err != nil {
			return nil, err
		}
		after, err := b.cpu()
		if err != nil {
			return nil, err
		}
		h := (after - before).Seconds() * 1e6 / cpuHandshakes
		ours, x25519, ratios = append(ours, h), append(x25519, x), append(ratios, h/x)
	}
	return []row{
		{"one X25519 key pair and shared secret", fmt.Sprintf("%.0f us", median(x25519)), "", "62 us (the reference machine)"},
		{"responder CPU per handshake: PSK, X25519, AES-128-GCM, IKE_SA_INIT + IKE_AUTH + Child SA", fmt.Sprintf("%.0f us", median(ours)), "", "charon 285 us"},
		{"  in units of that X25519", fmt.Sprintf("%.2f", median(ratios)), "at most 2.2", "charon 4.6"},
	}, nil
}

// exchange measures one key pair and shared secret, in microseconds of CPU.
func exchange(n int) (float64, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	peer, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return 0, err
	}
	var before, after unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &before); err != nil {
		return 0, err
	}
	for range n {
		key, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			return 0, err
		}
		if _, err := key.ECDH(peer.PublicKey()); err != nil {
			return 0, err
		}
	}
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &after); err != nil {
		return 0, err
	}
	return float64(after.Nano()-before.Nano()) / 1e3 / float64(n), nil
}

// memory measures the growth of resident memory by established IKE SAs with one Child SA each, on the responder: every peer has an identity and a
// selector of its own. The datapath's memory is not in it.
func memory() ([]row, error) {
	b, err := newBed()
	if err != nil {
		return nil, err
	}
	defer b.stop()
	if err := b.run(500); err != nil { // the program's own pages come in
		return nil, err
	}
	rssBefore, heapBefore, err := resident()
	if err != nil {
		return nil, err
	}
	if err := b.run(memorySAs); err != nil {
		return nil, err
	}
	rssAfter, heapAfter, err := resident()
	if err != nil {
		return nil, err
	}
	if n := b.engine.Stats().Established; n != memorySAs+500 {
		return nil, fmt.Errorf("%d IKE SAs are established, want %d", n, memorySAs+500)
	}
	runtime.KeepAlive(b)
	per := func(before, after int64) string { return fmt.Sprintf("%.2f KB", float64(after-before)/1000/memorySAs) }
	return []row{
		{fmt.Sprintf("resident memory per IKE SA with Child SA (%d, GOGC=%s, after a forced collection)", memorySAs, gogc()), per(rssBefore, rssAfter), "at most 6 KB", "charon 13.8 KB"},
		{"  of it live objects on the heap", per(heapBefore, heapAfter), "", ""},
	}, nil
}

// resident is the resident set and the live heap in octets, after a collection.
func resident() (rss, heap int64, err error) {
	debug.FreeOSMemory()
	debug.FreeOSMemory()
	time.Sleep(50 * time.Millisecond) // what the collector gives back is given back on its own thread
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, 0, err
	}
	fields := bytes.Fields(statm)
	if len(fields) < 2 {
		return 0, 0, fmt.Errorf("/proc/self/statm reads %q", statm)
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0, 0, err
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return pages * int64(os.Getpagesize()), int64(m.HeapAlloc), nil
}

func gogc() string {
	if v := os.Getenv("GOGC"); v != "" {
		return v
	}
	return "100"
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}
