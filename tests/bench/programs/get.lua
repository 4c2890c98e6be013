-- wrk: GET, as it does without a script.
wrk.method = "GET"
