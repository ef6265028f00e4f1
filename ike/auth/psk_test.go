package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ident"
)

const psk = "correct horse battery staple"

func mustID(t testing.TB, s string) ident.ID {
	t.Helper()
	if s == "" {
		return ident.ID{}
	}
	id, err := ident.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// record makes a PSK record from "@west @east %any"; its key and position are its name.
func record(t testing.TB, ids, name string) Secret {
	t.Helper()
	s := Secret{Key: []byte(name), Position: "ipsec.secrets:" + name}
	for f := range strings.FieldsSeq(ids) {
		p := ident.Pattern{Any: f == "%any"}
		if !p.Any {
			p.ID = mustID(t, f)
		}
		s.IDs = append(s.IDs, p)
	}
	return s
}

func job(t testing.TB, local, remote string, octets []byte) *machine.AuthJob {
	return &machine.AuthJob{
		Conn:   &policy.Oriented{Connection: &policy.Connection{Name: "west-east"}},
		Method: iana.AuthSharedKey,
		Local:  mustID(t, local),
		Remote: mustID(t, remote),
		PRF:    iana.PRF_HMAC_SHA2_512,
		Octets: octets,
	}
}

func TestFind(t *testing.T) {
	for _, tc := range []struct {
		name          string
		records       []string // "ids"; the key of the nth is its number
		local, remote string
		want          int // -1: none
	}{
		{"both", []string{"", "%any", "@west", "@west %any", "@east %any", "@west @east"}, "@west", "@east", 5},
		{"both, either order", []string{"@west %any", "@east @west"}, "@west", "@east", 1},
		{"local and any", []string{"", "%any", "@west", "@east %any", "@west %any"}, "@west", "@east", 4},
		{"local alone", []string{"", "%any", "@east %any", "@west"}, "@west", "@east", 3},
		{"remote and any", []string{"", "%any", "@east %any"}, "@west", "@east", 2},
		{"any", []string{"", "%any"}, "@west", "@east", 1},
		{"no identities", []string{"@x @y", ""}, "@west", "@east", 1},
		{"remote alone is none", []string{"@east"}, "@west", "@east", -1},
		{"local with a third is none", []string{"@west @north"}, "@west", "@east", -1},
		{"nothing", nil, "@west", "@east", -1},
		{"earliest of equals", []string{"@west @east", "@east @west", "@west @east"}, "@west", "@east", 0},
		{"earliest any", []string{"@x @y", "%any", "%any"}, "@west", "@east", 1},
		{"earliest alone", []string{"@x", "@west", "@west"}, "@west", "@east", 1},
		{"case of a name", []string{"", "@WEST.Example @east"}, "@west.example", "@East", 1},
		{"type counts", []string{"@[west] @east"}, "@west", "@east", -1},
		{"addresses", []string{"192.1.2.45 192.1.2.23", "2001:db8::1 2001:db8::2"}, "2001:db8::1", "2001:db8::2", 1},
		{"three in one record", []string{"@north @west @east"}, "@west", "@east", 0},
		{"both beside any", []string{"@west %any", "@west @east %any"}, "@west", "@east", 1},
		{"remote not known", []string{"@west @east", "@west %any", "%any"}, "@west", "", 1},
		{"remote not known, only pairs", []string{"@west @east"}, "@west", "", -1},
		{"local named twice is still alone with none", []string{"@west @west"}, "@west", "@east", -1},
		{"same identity on both sides", []string{"", "@west"}, "@west", "@west", 1},
		{"a template's record of a third", []string{"@x %any", ""}, "@west", "@east", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var secrets []Secret
			for i, ids := range tc.records {
				secrets = append(secrets, record(t, ids, fmt.Sprint(i)))
			}
			got := -1
			if s, ok := NewStore(secrets).find(mustID(t, tc.local), mustID(t, tc.remote)); ok {
				if _, err := fmt.Sscan(string(s.Key), &got); err != nil {
					t.Fatal(err)
				}
			}
			if got != tc.want {
				t.Fatalf("record %d, expected %d", got, tc.want)
			}
			if ref := reference(secrets, mustID(t, tc.local), mustID(t, tc.remote)); ref != tc.want {
				t.Fatalf("the scores give %d, expected %d", ref, tc.want)
			}
		})
	}
}

// reference is libreswan's scoring as its description has it, record by record.
func reference(secrets []Secret, local, remote ident.ID) int {
	best, at := 0, -1
	for n, s := range secrets {
		isLocal, isRemote, isAny := false, false, false
		for _, p := range s.IDs {
			isAny = isAny || p.Any
			isLocal = isLocal || (!p.Any && p.Match(local))
			isRemote = isRemote || (!p.Any && p.Match(remote))
		}
		score := 0
		switch {
		case len(s.IDs) == 0:
			score = 1
		case isLocal && isRemote:
			score = 8 + 4
		case isLocal && isAny:
			score = 8 + 2
		case isLocal && len(s.IDs) == 1:
			score = 8 + 1
		case isRemote && isAny:
			score = 4 + 2
		case isAny:
			score = 2
		}
		if score > best {
			best, at = score, n
		}
	}
	return at
}

// TestFindAgainstScores compares the indexed search with the scores over all small stores of a few words.
func TestFindAgainstScores(t *testing.T) {
	words := []string{"", "%any", "@west", "@east", "@west %any", "@east %any", "@west @east", "@x", "@x %any", "@west @x", "@west @east %any"}
	ids := []string{"", "@west", "@east", "@x"}
	checked := 0
	for _, a := range words {
		for _, b := range words {
			for _, c := range words {
				secrets := []Secret{record(t, a, "0"), record(t, b, "1"), record(t, c, "2")}
				store := NewStore(secrets)
				for _, l := range ids {
					for _, r := range ids {
						local, remote := mustID(t, l), mustID(t, r)
						got := -1
						if s, ok := store.find(local, remote); ok {
							got = int(s.Key[0] - '0')
						}
						if want := reference(secrets, local, remote); got != want {
							t.Fatalf("records %q, %q, %q for local %q, remote %q: %d, expected %d", a, b, c, l, r, got, want)
						}
						checked++
					}
				}
			}
		}
	}
	if checked != len(words)*len(words)*len(words)*len(ids)*len(ids) {
		t.Fatal("checked", checked)
	}
}

func TestSharedKeyMIC(t *testing.T) {
	octets := []byte("message, nonce, MACed id")
	store := NewStore([]Secret{{Key: []byte(psk)}})

	j := job(t, "@west", "@east", octets)
	got, err := store.Do(machine.Job{Sign: j})
	if err != nil {
		t.Fatal(err)
	}
	// AUTH by hand (RFC 7296 2.15).
	pad := hmac.New(sha512.New, []byte(psk))
	pad.Write([]byte("Key Pad for IKEv2"))
	auth := hmac.New(sha512.New, pad.Sum(nil))
	auth.Write(octets)
	if !hmac.Equal(got, auth.Sum(nil)) {
		t.Fatalf("AUTH %x, expected %x", got, auth.Sum(nil))
	}

	j.PRF = iana.PRF_HMAC_SHA2_256
	if got, err = store.Do(machine.Job{Sign: j}); err != nil || len(got) != sha256.Size {
		t.Fatalf("AUTH of %d octets, error %v", len(got), err)
	}
}

func TestVerify(t *testing.T) {
	octets := []byte("octets")
	ours := NewStore([]Secret{record(t, "@west @east", psk)})
	j := job(t, "@west", "@east", octets)
	good, err := ours.Do(machine.Job{Sign: j})
	if err != nil {
		t.Fatal(err)
	}
	j.Data = good
	if data, err := ours.Do(machine.Job{Verify: j}); err != nil || data != nil {
		t.Fatalf("good AUTH: data %x, error %v", data, err)
	}
	for i := range good {
		bad := append([]byte(nil), good...)
		bad[i] ^= 0x10
		j.Data = bad
		if _, err := ours.Do(machine.Job{Verify: j}); !errors.Is(err, ErrNotAuthentic) {
			t.Fatalf("octet %d changed: error %v", i, err)
		}
	}
	for _, n := range []int{0, 1, len(good) - 1} {
		j.Data = good[:n]
		if _, err := ours.Do(machine.Job{Verify: j}); !errors.Is(err, ErrNotAuthentic) {
			t.Fatalf("%d octets: error %v", n, err)
		}
	}
	j.Data = append(append([]byte(nil), good...), 0)
	if _, err := ours.Do(machine.Job{Verify: j}); !errors.Is(err, ErrNotAuthentic) {
		t.Fatalf("one octet more: error %v", err)
	}
	j.Data, j.Octets = good, []byte("other")
	if _, err := ours.Do(machine.Job{Verify: j}); !errors.Is(err, ErrNotAuthentic) {
		t.Fatalf("other octets: error %v", err)
	}
}

// TestErrors reads the messages as an operator does.
func TestErrors(t *testing.T) {
	j := func(change func(*machine.AuthJob)) *machine.AuthJob {
		j := job(t, "@west", "@east", []byte("octets"))
		change(j)
		return j
	}
	same := func(*machine.AuthJob) {}
	for _, tc := range []struct {
		name    string
		records []string
		job     machine.Job
		is      error
		want    string
	}{
		{
			"keys differ",
			[]string{"@west @east"},
			machine.Job{Verify: j(func(j *machine.AuthJob) { j.Data = make([]byte, 64) })},
			ErrNotAuthentic,
			`the AUTH data does not verify: the pre-shared keys of @west (us, at ipsec.secrets:horse0) and @east (the peer) differ; write the same secret on both sides`,
		},
		{
			"keys differ, and others would have fitted",
			[]string{"", "%any", "@west @east", "@west", "@east @west"},
			machine.Job{Verify: j(func(j *machine.AuthJob) { j.Data = make([]byte, 64) })},
			ErrNotAuthentic,
			`write the same secret on both sides; the record was chosen because it names both, before ` +
				`ipsec.secrets:horse3 (names us alone), ipsec.secrets:horse1 (has %any), ipsec.secrets:horse0 (is for everybody)`,
		},
		{
			"several come near",
			[]string{"@west @x", "@east", "@x @y", "@z @east", "@y @west", "@west @z"},
			machine.Job{Sign: j(same)},
			ErrNoSecret,
			`none of the 6 PSK records of ipsec.secrets fits (the record at ipsec.secrets:horse1 names @east but not @west; the record at ipsec.secrets:horse3 names @east ` +
				`but not @west; the record at ipsec.secrets:horse0 names @west but not @east; the record at ipsec.secrets:horse4 names @west but not @east; and more); ` +
				`add the line: @west @east : PSK "..."`,
		},
		{
			"a DN goes into quotes",
			nil,
			machine.Job{Sign: j(func(j *machine.AuthJob) { j.Local = mustID(t, "C=CH, CN=west") })},
			ErrNoSecret,
			`add the line: "C=CH, CN=west" @east : PSK "..."`,
		},
		{
			"no records", nil,
			machine.Job{Sign: j(same)},
			ErrNoSecret,
			`no pre-shared key for @west (us) and @east (the peer): ipsec.secrets has no PSK record; add the line: @west @east : PSK "..."`,
		},
		{
			"no record fits",
			[]string{"@x @y", "@y @z"},
			machine.Job{Sign: j(same)},
			ErrNoSecret,
			`no pre-shared key for @west (us) and @east (the peer): none of the 2 PSK records of ipsec.secrets fits; add the line: @west @east : PSK "..."`,
		},
		{
			"only the peer",
			[]string{"@x @y", "@east"},
			machine.Job{Verify: j(same)},
			ErrNoSecret,
			`no pre-shared key for @west (us) and @east (the peer): none of the 2 PSK records of ipsec.secrets fits (the record at ipsec.secrets:horse1 names @east but not @west); add the line: @west @east : PSK "..."`,
		},
		{
			"peer not known",
			[]string{"@west @east"},
			machine.Job{Sign: j(func(j *machine.AuthJob) { j.Remote = ident.ID{} })},
			ErrNoSecret,
			`no pre-shared key for @west (us) and %any (the peer): none of the 1 PSK records of ipsec.secrets fits (the record at ipsec.secrets:horse0 names @west but not %any); add the line: @west %any : PSK "..."`,
		},
		{
			"method",
			[]string{""},
			machine.Job{Verify: j(func(j *machine.AuthJob) { j.Method = iana.AuthRSA })},
			ErrMethod,
			`only a pre-shared key (authby=secret) is`,
		},
		{"prf", []string{""}, machine.Job{Sign: j(func(j *machine.AuthJob) { j.PRF = iana.PRF_HMAC_MD5 })}, nil, `is not implemented`},
		{"no job", nil, machine.Job{}, nil, `neither to sign nor to verify`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var secrets []Secret
			for i, ids := range tc.records {
				secrets = append(secrets, record(t, ids, fmt.Sprint("horse", i)))
			}
			for i := range secrets {
				secrets[i].Key = []byte(psk)
			}
			data, err := NewStore(secrets).Do(tc.job)
			if err == nil || data != nil {
				t.Fatalf("data %x, error %v", data, err)
			}
			if tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("error %v is not %v", err, tc.is)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("message\n%s\nexpected\n%s", err, tc.want)
			}
			if strings.Contains(err.Error(), psk) {
				t.Errorf("the message holds the key")
			}
		})
	}
}

func TestEmptyKeyIsRefused(t *testing.T) {
	_, err := NewStore([]Secret{{Position: "ipsec.secrets:7"}}).Do(machine.Job{Sign: job(t, "@west", "@east", []byte("octets"))})
	if !errors.Is(err, ErrNoSecret) || !strings.Contains(err.Error(), "ipsec.secrets:7 is empty") {
		t.Fatal(err)
	}
}

func TestKeysNeverPrint(t *testing.T) {
	secret := record(t, "@west", psk)
	store := NewStore([]Secret{secret})
	nested := struct {
		S  Secret
		P  *Secret
		L  []Secret
		St *Store
	}{secret, &secret, []Secret{secret}, store}
	hexKey := fmt.Sprintf("%x", psk)
	for _, v := range []any{secret, &secret, []Secret{secret}, map[string]Secret{"a": secret}, store, nested, &nested} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
			out := fmt.Sprintf(verb, v)
			if strings.Contains(out, psk) || strings.Contains(strings.ToLower(out), hexKey) || strings.Contains(out, "99 111 114") {
				t.Errorf("%s of %T prints the key: %s", verb, v, out)
			}
		}
		out, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(out), "Y29ycmVjd") || strings.Contains(string(out), psk) { // base64 of the key
			t.Errorf("JSON of %T prints the key: %s", v, out)
		}
	}
}

func BenchmarkFind(b *testing.B) {
	var secrets []Secret
	for i := range 10000 {
		secrets = append(secrets, record(b, fmt.Sprintf("@gateway @client%d", i), "k"))
	}
	store := NewStore(secrets)
	local, remote := mustID(b, "@gateway"), mustID(b, "@client9999")
	for b.Loop() {
		if _, ok := store.find(local, remote); !ok {
			b.Fatal("not found")
		}
	}
}
