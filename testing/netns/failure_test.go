package netns_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
)

// TestFailuresAreExplained makes every usual mistake, and reads what an operator on each side reads at the default log level: what was offered, and
// what was allowed.
func TestFailuresAreExplained(t *testing.T) {
	other := "@west @east : PSK \"quite another secret than that\"\n"
	for _, tc := range []struct {
		name            string
		west, east      string // configurations
		westSecrets     string
		block           string
		ikectl          []string // what `up` must mention, all of it
		westLog, eastLg []string // what the logs must mention
	}{
		{
			name: "wrong-psk", west: config(nil), east: config(nil), westSecrets: other,
			ikectl:  []string{"AUTHENTICATION_FAILED", netns.East + ":UDP/4500"},
			westLog: []string{"AUTHENTICATION_FAILED", "pre-shared keys differ", "@west", "@east", "ipsec.conf:"},
			eastLg:  []string{"@west", "@east", "pre-shared keys", "differ", "ipsec.secrets:1", conn},
		},
		{
			name: "no-psk-here", west: config(nil), east: config(nil), westSecrets: "@other : PSK \"a secret that nobody guesses\"\n",
			ikectl:  []string{"@west", "@east", "ipsec.secrets"},
			westLog: []string{"@west", "@east", "ipsec.secrets"},
		},
		{
			name: "wrong-id-of-initiator", west: strings.Replace(config(nil), "leftid=@west", "leftid=@nobody", 1), east: config(nil),
			westSecrets: "@nobody @east : PSK \"a secret that nobody guesses\"\n",
			ikectl:      []string{"AUTHENTICATION_FAILED"},
			westLog:     []string{"AUTHENTICATION_FAILED", "@nobody"},
			eastLg:      []string{"@nobody", "@west", conn},
		},
		{
			name: "wrong-id-of-responder", west: strings.Replace(config(nil), "rightid=@east", "rightid=@nobody", 1), east: config(nil),
			westSecrets: "@west @nobody : PSK \"a secret that nobody guesses\"\n",
			ikectl:      []string{"AUTHENTICATION_FAILED"},
			westLog:     []string{"@nobody"},
			eastLg:      []string{"@nobody", "@east", conn},
		},
		{
			name: "no-common-ike-proposal", west: config(nil, "ike=aes_gcm256-sha2_512-dh19", "retransmit-timeout=2s"), east: config(nil, "ike=aes_cbc128-sha2_256-dh14"),
			ikectl:  []string{"NO_PROPOSAL_CHOSEN", "AES_GCM"},
			westLog: []string{"NO_PROPOSAL_CHOSEN", "AES_GCM"},
			eastLg:  []string{"offered", "AES_GCM", "allowed", "AES_CBC", conn},
		},
		{
			name: "no-common-esp-proposal", west: config(nil, "esp=aes_gcm256"), east: config(nil, "esp=aes_cbc128-sha2_256"),
			ikectl:  []string{"NO_PROPOSAL_CHOSEN", "AES_GCM"},
			westLog: []string{"NO_PROPOSAL_CHOSEN", "AES_GCM"},
			eastLg:  []string{"offered", "AES_GCM", "allowed", "AES_CBC", conn},
		},
		{
			name: "other-subnet", west: strings.Replace(config(nil), "rightsubnet=192.0.2.0/24", "rightsubnet=10.9.0.0/16", 1), east: config(nil),
			ikectl:  []string{"TS_UNACCEPTABLE", "10.9.0.0/16"},
			westLog: []string{"TS_UNACCEPTABLE", "10.9.0.0/16"},
			eastLg:  []string{"10.9.0.0/16", "192.0.2.0/24", conn},
		},
		{
			name: "no-matching-connection", west: config(nil, "retransmit-timeout=2s"), east: strings.Replace(config(nil), "left="+netns.West, "left=192.1.2.99", 1),
			ikectl:  []string{"NO_PROPOSAL_CHOSEN"},
			westLog: []string{"NO_PROPOSAL_CHOSEN"},
			eastLg:  []string{netns.West, netns.East, "no connection"},
		},
		{
			name: "port-closed-udp", west: config(nil, "retransmit-timeout=2s"), east: config([]string{"listen-udp=no"}),
			ikectl:  []string{netns.East + ":UDP/500", "ICMP says that nothing listens on this port"},
			westLog: []string{netns.East + ":UDP/500", "ICMP says that nothing listens on this port"},
		},
		{
			name: "port-closed-tcp", west: config(nil, "enable-tcp=yes"), east: strings.Replace(config(nil), "listen-tcp=yes", "listen-tcp=no", 1),
			ikectl:  []string{netns.East + ":TCP/4500", "refused"},
			westLog: []string{netns.East + ":TCP/4500", "refused"},
		},
		{
			name: "silent-udp", west: config(nil, "retransmit-timeout=2s"), east: config(nil), block: "meta l4proto udp",
			ikectl:  []string{netns.East + ":UDP/500", "2s"},
			westLog: []string{netns.East + ":UDP/500", "2s"},
		},
		{
			name: "silent-tcp", west: config(nil, "enable-tcp=yes", "retransmit-timeout=2s"), east: config(nil), block: "meta l4proto tcp",
			ikectl:  []string{netns.East + ":TCP/4500", "2s"},
			westLog: []string{netns.East + ":TCP/4500", "2s"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, w, e := netns.Gateways(t)
			if tc.westSecrets == "" {
				tc.westSecrets = secrets
			}
			west, east := start(t, w, tc.west, tc.westSecrets), start(t, e, tc.east, secrets)
			if tc.block != "" {
				if _, err := e.Block("all", tc.block); err != nil {
					t.Fatal(err)
				}
			}
			begin := time.Now()
			out, status := west.Ikectl("up", conn)
			if status != 1 {
				t.Errorf("exit status %d, want 1", status)
			}
			if took := time.Since(begin); took > 8*time.Second {
				t.Errorf("it took %s", took)
			}
			mentions(t, "ikectl up", out, tc.ikectl)
			heard(t, "the initiator's log", west, tc.westLog)
			heard(t, "the responder's log", east, tc.eastLg)
			if strings.Contains(west.Log()+east.Log()+out, "nobody guesses") {
				t.Error("a secret was logged")
			}
		})
	}
}

// heard is mentions for a log, which comes a moment later.
func heard(t *testing.T, who string, d *netns.Daemon, words []string) {
	t.Helper()
	netns.Poll(2*time.Second, func() bool {
		log := d.Log()
		for _, w := range words {
			if !strings.Contains(log, w) {
				return false
			}
		}
		return true
	})
	mentions(t, who, d.Log(), words)
}

// mentions looks for words in what somebody said. Lines are wrapped for people, so white space counts once.
func mentions(t *testing.T, who, said string, words []string) {
	t.Helper()
	flat := strings.Join(strings.Fields(said), " ")
	for _, w := range words {
		if !strings.Contains(flat, w) {
			t.Errorf("%s does not mention %q:\n%s", who, w, said)
		}
	}
}

func TestUnknownConnection(t *testing.T) {
	_, w, _ := netns.Gateways(t)
	west := start(t, w, config(nil), secrets)
	for _, verb := range []string{"up", "down", "delete", "add"} {
		if out, status := west.Ikectl(verb, "nosuch"); status != 1 || !strings.Contains(out, "nosuch") {
			t.Errorf("%s: %d %s", verb, status, out)
		}
	}
	if out, status := west.Ikectl("up"); status != 2 {
		t.Errorf("up without a name: %d %s", status, out)
	}
	if out, status := west.Ikectl("up", "--timeout", "300ms", conn); status != 4 {
		t.Errorf("up with a timeout and a peer that is silent: %d %s", status, out)
	}
	if err := west.Stop(); err != nil {
		t.Error(err)
	}
	if out, status := west.Ikectl("status"); status != 3 {
		t.Errorf("status without a daemon: %d %s", status, out)
	}
}
