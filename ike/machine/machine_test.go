package machine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/suite"
)

// TestRules checks the table itself: rows are complete, and of two rows about the same message in the same state the later one never asks for more than the
// earlier, which would hide it.
func TestRules(t *testing.T) {
	for i, r := range rules {
		if r.story == "" || r.do == nil || r.in == 0 || !r.initiator && !r.responder {
			t.Errorf("row %d is incomplete: %+v", i, r)
		}
		if r.clear != (r.exchange == iana.IKE_SA_INIT) {
			t.Errorf("%s: only IKE_SA_INIT is in clear", r.story)
		}
		if r.many&^(r.must|r.may) != 0 {
			t.Errorf("%s: may appear more than once but not once", r.story)
		}
		for _, later := range rules[i+1:] {
			same := later.exchange == r.exchange && later.response == r.response && later.in&r.in != 0 &&
				(later.initiator && r.initiator || later.responder && r.responder)
			if same && r.must&^later.must == 0 {
				t.Errorf("%q is never reached behind %q", later.story, r.story)
			}
		}
	}
}

// TestRulesBeforeAuthentication: until the peer has proved its identity nothing but IKE_SA_INIT and IKE_AUTH may arrive.
func TestRulesBeforeAuthentication(t *testing.T) {
	before := in(idle, initSent, keying, authSent, halfOpen, waiting)
	for _, r := range rules {
		if r.in&before != 0 && r.exchange != iana.IKE_SA_INIT && r.exchange != iana.IKE_AUTH {
			t.Errorf("%q may arrive before authentication", r.story)
		}
		if r.in&in(ended, closed) != 0 {
			t.Errorf("%q may arrive after the end", r.story)
		}
	}
}

// TestPayloadSets: every payload type of RFC 7296 3.2 and RFC 7383 has its own bit, others have none.
func TestPayloadSets(t *testing.T) {
	var all payloads
	for n := range 256 {
		s := setOf(iana.Payload(n))
		if (s != 0) != (n >= 33 && n <= 53) || all&s != 0 {
			t.Errorf("type %d: %b", n, s)
		}
		if s != 0 && first(s) != iana.Payload(n) {
			t.Errorf("first of type %d is %v", n, first(s))
		}
		all |= s
	}
	if first(0) != 0 {
		t.Error("the empty set has a first payload")
	}
}

func TestStatesHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for s := idle; s <= closed; s++ {
		if n := s.String(); n == "" || seen[n] {
			t.Errorf("state %d is %q", s, n)
		}
		seen[s.String()] = true
	}
}

// TestKeysNeverPrint formats everything that holds keys or secrets, alone and inside other structures.
func TestKeysNeverPrint(t *testing.T) {
	secret := []byte("SECRETSECRETSECRET")
	k := Keys{Encr: secret, Integ: secret}
	m := &Machine{spii: 0x1234, keys: suite.IKEKeys{D: secret, Ai: secret, Ei: secret, Pi: secret}, hs: &handshake{auth: secret}}
	for _, v := range []any{k, &k, Install{In: k, Out: k}, []Effect{Install{In: k}}, JobDone{ID: 3, Data: secret}, []Input{JobDone{Data: secret}}, m, struct{ M *Machine }{m}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			out := fmt.Sprintf(verb, v)
			for _, bad := range []string{"SECRET", fmt.Sprintf("%x", secret[:4]), strings.ToUpper(fmt.Sprintf("%x", secret[:4])), "83 69 67", "0x53, 0x45"} {
				if strings.Contains(out, bad) {
					t.Errorf("%T with %s prints %s", v, verb, out)
				}
			}
		}
	}
	out, err := json.Marshal(Install{In: k, Out: k})
	if err != nil || bytes.Contains(out, []byte("U0VDUkV")) {
		t.Errorf("JSON: %s, %v", out, err)
	}
	if s := m.String(); !strings.Contains(s, "1234") || !strings.Contains(s, "idle") {
		t.Errorf("a machine prints as %s", s)
	}
}
