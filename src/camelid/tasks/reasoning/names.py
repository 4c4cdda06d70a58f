"""Common first and last names in the United States, for generated questions."""

FIRST_NAMES = (
    "Aaron", "Abigail", "Adam", "Alan", "Albert", "Alice", "Amanda", "Amy", "Andrea", "Andrew", "Angela",
    "Anna", "Anthony", "Arthur", "Barbara", "Beatrice", "Benjamin", "Betty", "Brandon", "Brian", "Bruce",
    "Carl", "Carmen", "Carol", "Catherine", "Charles", "Christina", "Christopher", "Cynthia", "Daniel",
    "David", "Deborah", "Dennis", "Diana", "Donald", "Donna", "Dorothy", "Douglas", "Edward", "Eleanor",
    "Elizabeth", "Emily", "Eric", "Eugene", "Evelyn", "Frances", "Frank", "Frederick", "George", "Gerald",
    "Gloria", "Grace", "Gregory", "Hannah", "Harold", "Heather", "Helen", "Henry", "Howard", "Irene",
    "Jack", "Jacob", "Jacqueline", "James", "Janet", "Jason", "Jean", "Jeffrey", "Jennifer", "Jeremy",
    "Jessica", "Joan", "John", "Jonathan", "Joseph", "Joyce", "Judith", "Julia", "Justin", "Karen",
    "Katherine", "Kathleen", "Keith", "Kenneth", "Kevin", "Kimberly", "Larry", "Laura", "Lawrence",
    "Leonard", "Linda", "Lisa", "Louis", "Lucy", "Margaret", "Maria", "Marie", "Mark", "Martin", "Mary",
    "Matthew", "Megan", "Melissa", "Michael", "Michelle", "Nancy", "Nathan", "Nicholas", "Nicole", "Norman",
    "Oliver", "Olivia", "Oscar", "Pamela", "Patricia", "Patrick", "Paul", "Peter", "Philip", "Rachel",
    "Ralph", "Raymond", "Rebecca", "Richard", "Robert", "Roger", "Rose", "Russell", "Ruth", "Ryan",
    "Samantha", "Samuel", "Sandra", "Sarah", "Scott", "Sharon", "Shirley", "Sophia", "Stephanie", "Stephen",
    "Susan", "Teresa", "Theodore", "Theresa", "Thomas", "Timothy", "Tyler", "Vanessa", "Victor", "Victoria",
    "Vincent", "Virginia", "Walter", "Wayne", "William", "Zachary",
)  # fmt: skip
LAST_NAMES = (
    "Adams", "Alexander", "Allen", "Anderson", "Bailey", "Baker", "Barnes", "Bell", "Bennett", "Brooks",
    "Brown", "Bryant", "Butler", "Campbell", "Carter", "Clark", "Coleman", "Collins", "Cook", "Cooper",
    "Cox", "Cruz", "Davis", "Diaz", "Edwards", "Evans", "Fisher", "Flores", "Ford", "Foster", "Garcia",
    "Gibson", "Gomez", "Gonzales", "Graham", "Gray", "Green", "Griffin", "Hall", "Hamilton", "Harris",
    "Harrison", "Hayes", "Henderson", "Hernandez", "Hill", "Howard", "Hughes", "Jackson", "Jenkins",
    "Johnson", "Jones", "Jordan", "Kelly", "Kennedy", "King", "Lee", "Lewis", "Long", "Lopez", "Marshall",
    "Martinez", "McDonald", "Miller", "Mitchell", "Moore", "Morgan", "Morris", "Murphy", "Murray", "Myers",
    "Nelson", "Ortiz", "Owens", "Parker", "Patterson", "Perez", "Perry", "Peterson", "Phillips", "Powell",
    "Price", "Ramirez", "Reed", "Reyes", "Reynolds", "Richardson", "Rivera", "Roberts", "Robinson",
    "Rodriguez", "Rogers", "Ross", "Russell", "Sanchez", "Sanders", "Scott", "Simmons", "Smith", "Stewart",
    "Sullivan", "Taylor", "Thomas", "Thompson", "Torres", "Tucker", "Turner", "Walker", "Wallace", "Ward",
    "Washington", "Watson", "West", "White", "Williams", "Wilson", "Wood", "Wright", "Young",
)  # fmt: skip
