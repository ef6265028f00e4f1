package twosa

import (
	"errors"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/suite"
)

// esp sets esp= of every child.
func esp(t *testing.T, text string) func(*policy.Connection) {
	p, err := suite.ParseESP(text, []iana.SN{iana.SN_32})
	if err != nil {
		t.Fatal(err)
	}
	return func(c *policy.Connection) {
		for i := range c.Children {
			c.Children[i].ESP = p
		}
	}
}

var withoutChaCha = suite.Lacking{Encr: map[iana.Encr]string{iana.ENCR_CHACHA20_POLY1305: "the kernel was built without it; another kernel is needed"}}

// TestLackingAlgorithm: what a datapath does not have is neither offered nor chosen, in IKE_AUTH and in CREATE_CHILD_SA, and who has nothing else says so.
func TestLackingAlgorithm(t *testing.T) {
	const both, only = "chacha20_poly1305,aes_gcm256", "chacha20_poly1305"
	lackingWords := []string{"nothing that \"west-east\" allows (esp=CHACHA20_POLY1305;SN=NO_ESN", "can be had on this host: CHACHA20_POLY1305: the kernel was built without it"}
	for _, tc := range []struct {
		name, west, east string
		lacks            func(*World) *Host
		words            []string // of the one that lacks it
		other            []string
	}{
		{"responder has another", both, both, func(w *World) *Host { return w.East }, nil, nil},
		{"initiator has another", both, both, func(w *World) *Host { return w.West }, nil, nil},
		{"responder has none", both, only, func(w *World) *Host { return w.East }, append(lackingWords, "sent NO_PROPOSAL_CHOSEN"), []string{"NO_PROPOSAL_CHOSEN", "or its kernel lacks an algorithm"}},
		{"nothing in common is left", only, both, func(w *World) *Host { return w.East }, []string{"esp= allows more, which cannot be had on this host: CHACHA20_POLY1305", "sent NO_PROPOSAL_CHOSEN"}, nil},
		{"initiator has none", only, both, func(w *World) *Host { return w.West }, lackingWords, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := Pair(1, esp(t, tc.west), esp(t, tc.east))
			tc.lacks(w).Lacks = withoutChaCha
			w.West.Initiate(w.West.UDP())
			w.Settle()
			if tc.words == nil {
				agreed(t, w)
				if got := w.East.M.Snapshot().Children[0].Suite.Encr.ID; got != iana.ENCR_AES_GCM_16 {
					t.Errorf("chosen %v", got)
				}
				return
			}
			said(t, tc.lacks(w), tc.words...)
			if tc.other != nil {
				said(t, tc.lacks(w).Peer(), tc.other...)
			}
			if tc.lacks(w) == w.West {
				if len(w.West.Sent) != 0 || w.West.Closed == nil || w.West.Closed.Reason != event.ReasonNoProposal {
					t.Errorf("sent %d, closed %+v", len(w.West.Sent), w.West.Closed)
				}
				return
			}
			childless(t, w, event.ReasonNoProposal, iana.NO_PROPOSAL_CHOSEN)
		})
	}
	t.Run("CREATE_CHILD_SA", func(t *testing.T) {
		w := Pair(1, two, two)
		w.East.Lacks = withoutChaCha
		w.West.Initiate(w.West.UDP())
		w.Settle()
		agreedOn(t, w, 1)
		for _, h := range []*Host{w.West, w.East} {
			esp(t, only)(h.Conn.Connection)
		}
		w.West.open()
		w.Settle()
		unmade(t, w, iana.NO_PROPOSAL_CHOSEN)
		w.East.open()
		w.Settle()
		agreedOn(t, w, 1)
		said(t, w.East, "nothing that \"west-east/2\" allows")
	})
}

// TestRefusedInstallation: what the owner says about a refused installation is what the peer is told, but nothing is temporary in IKE_AUTH.
func TestRefusedInstallation(t *testing.T) {
	for _, n := range []iana.Notify{0, iana.NO_PROPOSAL_CHOSEN, iana.TEMPORARY_FAILURE} {
		auth := n
		if n != iana.NO_PROPOSAL_CHOSEN {
			auth = iana.NO_ADDITIONAL_SAS
		}
		t.Run(n.String(), func(t *testing.T) {
			w := Pair(1, nil, nil)
			w.East.FailInstall, w.East.Tell = errors.New("kernel says no"), n
			w.West.Initiate(w.West.UDP())
			w.Settle()
			childless(t, w, event.ReasonInstallFailed, auth)
			said(t, w.East, "kernel says no", "sent "+auth.String())
			said(t, w.West, auth.String(), "its log")
		})
	}
	t.Run("again after a while", func(t *testing.T) {
		w := upTwo(t, false, same, same)
		w.East.FailInstall, w.East.Tell = errors.New("no memory"), iana.TEMPORARY_FAILURE
		w.West.open()
		w.Settle()
		said(t, w.East, "no memory", "sent TEMPORARY_FAILURE")
		w.East.FailInstall = nil
		w.Run(time.Minute)
		agreedOn(t, w, 2)
	})
}

// TestStranded: a Child SA that carries nothing any more goes if it gets no successor, whoever refuses that.
func TestStranded(t *testing.T) {
	for name, fail := range map[string]func(*World){
		"the peer refuses":  func(w *World) { w.East.FailInstall = errors.New("kernel says no") },
		"it has no SPI":     func(w *World) { w.West.FailSPI = errors.New("no SPI left") },
		"it cannot install": func(w *World) { w.West.FailInstall = errors.New("kernel says no") },
	} {
		t.Run(name, func(t *testing.T) {
			w := upTwo(t, false, same, same)
			fail(w)
			w.West.Step(machine.RekeyChild{Child: w.West.M.Snapshot().Children[0].ID, OrClose: true})
			w.Settle()
			agreedOn(t, w, 0)
			said(t, w.West, "cannot go on without the successor that it did not get: deleting it")
		})
	}
}

// TestStrandedMeanwhile: the peer was about to replace the Child SA that now carries nothing. If nothing comes of that, it goes as well.
func TestStrandedMeanwhile(t *testing.T) {
	for name, fail := range map[string]func(*World){
		"no SPI":           func(w *World) { w.West.FailSPI = errors.New("no SPI left") },
		"not installed":    func(w *World) { w.West.FailInstall = errors.New("kernel says no") },
		"the peer rejects": func(w *World) { w.East.FailInstall = errors.New("kernel says no") },
	} {
		t.Run(name, func(t *testing.T) {
			w := upTwo(t, false, same, same)
			w.West.Hold = func(machine.Effect) bool { return true }
			w.East.Step(machine.RekeyChild{Child: w.East.M.Snapshot().Children[0].ID})
			w.Settle()
			if len(w.West.Held) == 0 {
				t.Fatal("west has nothing to do for it")
			}
			fail(w)
			w.West.Step(machine.RekeyChild{Child: w.West.M.Snapshot().Children[0].ID, OrClose: true})
			w.West.Hold = nil
			w.West.Complete()
			w.Settle()
			agreedOn(t, w, 0)
			said(t, w.West, "cannot go on without the successor that it did not get: deleting it")
		})
	}
}
